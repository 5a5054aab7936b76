//! Why a hit is not as long as what full attention alone has.

use super::coordinator::{Answer, Rules, Search};
use super::{Class, GroupKind, GroupedCache};
use crate::serving::HitLimits;

fn is_full(class: &Class) -> bool {
    class.kind == GroupKind::Full
}

fn is_state(class: &Class) -> bool {
    matches!(class.kind, GroupKind::Mamba { .. })
}

impl GroupedCache {
    /// Leading tokens of a request of `num_tokens` tokens that a look-up would find now; changes nothing.
    #[must_use]
    pub fn peek(&self, keys: &[u32], num_tokens: u32) -> u32 {
        if !self.config.enable_caching {
            return 0;
        }
        self.longest(keys, num_tokens, Rules::All, &|_| true)
    }

    /// The longest prefix that the groups that are asked agree on under some rules.
    fn longest(
        &self,
        keys: &[u32],
        num_tokens: u32,
        rules: Rules,
        asked: &dyn Fn(&Class) -> bool,
    ) -> u32 {
        let mut search = Search {
            pool: &self.pool,
            layout: &self.layout,
            keys: self.known_keys(keys, num_tokens),
            found: &mut vec![Vec::new(); self.config.groups.len()],
            answers: &mut vec![Answer::default(); self.layout.classes.len()],
            rules,
        };
        search.agree(num_tokens, asked).hit
    }

    /// The lengths that fewer and fewer constraints would leave of a hit of `hit` tokens.
    pub(super) fn limits_of(&self, keys: &[u32], num_tokens: u32, hit: u32) -> HitLimits {
        if !self.config.enable_caching {
            return HitLimits::default();
        }
        let length = |rules: Rules, asked: &dyn Fn(&Class) -> bool| {
            self.longest(keys, num_tokens, rules, asked)
        };
        let aligned = length(Rules::NoDrop, &|_| true).max(hit);
        let state = length(Rules::Unaligned, &|_| true).max(aligned);
        let windows = |class: &Class| !is_state(class);
        let has = |asked: &dyn Fn(&Class) -> bool| self.layout.classes.iter().any(asked);
        let window = if has(&windows) {
            length(Rules::Unaligned, &windows)
        } else {
            0
        };
        let window = window.max(state);
        let full = if has(&is_full) {
            length(Rules::Unaligned, &is_full)
        } else {
            0
        };
        HitLimits {
            full: full.max(window),
            window,
            state,
            aligned,
        }
    }
}
