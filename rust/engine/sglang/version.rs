//! The versions of SGLang whose rules are known, and what tells them apart.

use crate::error::{Error, Result};

/// A version of SGLang, and which of its trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// 0.5.23 with the unified tree: what its server builds.
    #[default]
    Unified0523,
    /// 0.5.23 with the classic tree (`mem_cache/radix_cache.py`), which it still ships.
    Radix0523,
    /// 0.5.16, classic tree.
    Radix0516,
    /// 0.5.9, classic tree.
    Radix0509,
}

impl Version {
    /// All versions, by name.
    pub const ALL: [(&'static str, Self); 4] = [
        ("unified-0.5.23", Self::Unified0523),
        ("radix-0.5.23", Self::Radix0523),
        ("radix-0.5.16", Self::Radix0516),
        ("radix-0.5.9", Self::Radix0509),
    ];

    /// The version of that name.
    ///
    /// # Errors
    /// [`Error::Range`] listing the names there are.
    pub fn from_name(name: &str) -> Result<Self> {
        choose("version", name, &Self::ALL)
    }

    /// Whether the tree is the unified one.
    #[must_use]
    pub fn is_unified(self) -> bool {
        self == Self::Unified0523
    }

    /// Whether the release is 0.5.23, with either tree.
    #[must_use]
    pub fn is_0523(self) -> bool {
        matches!(self, Self::Unified0523 | Self::Radix0523)
    }

    /// Whether the release is 0.5.9.
    #[must_use]
    pub fn is_0509(self) -> bool {
        self == Self::Radix0509
    }

    /// Whether the HTTP layer joins cache salt and extra key into one string.
    #[must_use]
    pub fn joins_namespace(self) -> bool {
        !self.is_0523()
    }

    /// Whether an eviction asks for the tokens that are missing only, not for the whole demand.
    #[must_use]
    pub fn evicts_shortfall(self) -> bool {
        self.is_0523()
    }

    /// Whether output tokens become a node of their own behind the whole pages of the prompt.
    #[must_use]
    pub fn splits_at_prompt(self) -> bool {
        self.is_0523()
    }
}

/// The value of a name in a list of choices.
pub(super) fn choose<T: Copy>(what: &str, name: &str, choices: &[(&str, T)]) -> Result<T> {
    let found = choices.iter().find(|choice| choice.0 == name);
    found.map(|choice| choice.1).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|choice| choice.0).collect();
        Error::range(format!(
            "{what} {name:?}: choose one of {}",
            names.join(", ")
        ))
    })
}
