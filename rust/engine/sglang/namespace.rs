//! Tokens and what they are cached under.

/// What separates the tokens of tenants: equal tokens in different namespaces share nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Namespace {
    /// SGLang's `extra_key`; a LoRA adapter's id is appended to it.
    pub extra_key: Option<String>,
    /// SGLang's `cache_salt`; an empty one is none.
    pub cache_salt: Option<String>,
}

impl Namespace {
    /// The namespace as a version tells it apart: before 0.5.23 salt and extra key are one string.
    #[must_use]
    pub(super) fn of(extra_key: Option<&str>, cache_salt: Option<&str>, joined: bool) -> Self {
        let own = |text: Option<&str>| text.filter(|t| !t.is_empty()).map(str::to_owned);
        if joined {
            let both = format!("{}{}", cache_salt.unwrap_or(""), extra_key.unwrap_or(""));
            return Self {
                extra_key: own(Some(&both)),
                cache_salt: None,
            };
        }
        Self {
            extra_key: own(extra_key),
            cache_salt: own(cache_salt),
        }
    }
}

/// Tokens and what they are cached under.
#[derive(Debug, Clone, Copy, Default)]
pub struct Prompt<'t> {
    /// Token ids.
    pub tokens: &'t [u32],
    /// SGLang's `extra_key`.
    pub extra_key: Option<&'t str>,
    /// SGLang's `cache_salt`.
    pub cache_salt: Option<&'t str>,
}
