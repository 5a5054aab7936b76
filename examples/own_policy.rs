//! A policy of one's own: of what is cached, the longest stretch that may go is dropped first.
//!
//! `cargo run --example own_policy`

use std::sync::Arc;

use prefixsim::index::RequestIx;
use prefixsim::policy::{
    CachedTree, Dropped, Facts, Policy, PolicySource, PrefixPolicy, Room, Setting, StretchIx,
    WithPolicy,
};
use prefixsim::prelude::*;

/// The cached tree; it keeps the stretches, and says which are leaves.
struct LongestFirst<'p> {
    tree: CachedTree<'p, ()>,
    /// The deepest stretch that the running request found, and how many blocks lead to its end.
    found: Option<(StretchIx, u32)>,
}

impl<'p> LongestFirst<'p> {
    fn new(setting: &Setting<'p>) -> Self {
        Self {
            tree: CachedTree::new(setting.profile),
            found: None,
        }
    }

    /// The longest leaf. A running request's blocks are none: they are pinned.
    fn longest(&self) -> Option<(StretchIx, u32)> {
        let leaves = self.tree.iter().filter(|(_, stretch)| stretch.is_leaf());
        let lengths = leaves.map(|(ix, stretch)| (ix, stretch.len()));
        lengths.max_by_key(|&(ix, length)| (length, ix))
    }
}

impl PrefixPolicy for LongestFirst<'_> {
    fn take(&mut self, request: RequestIx) -> u32 {
        let Some((whole, hit)) = self.tree.find(request) else {
            return 0;
        };
        let ix = self.tree.cut(whole, hit);
        self.tree.pin(ix);
        self.found = Some((ix, hit));
        hit
    }

    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room {
        let mut left = blocks;
        while left > 0
            && let Some((ix, length)) = self.longest()
        {
            let count = u32::try_from(left).map_or(length, |left| left.min(length));
            let (gone, _) = self.tree.trim(ix, count);
            dropped(gone);
            left -= u64::from(count);
        }
        Room::dropped(blocks - left)
    }

    fn put(&mut self, request: RequestIx, keep: u32) {
        let found = self.found.take();
        let hit = found.map_or(0, |(_, blocks)| blocks);
        self.tree
            .grow(request, hit..keep, found.map(|(ix, _)| ix), &());
        if let Some((ix, _)) = found {
            self.tree.unpin(ix);
        }
    }

    fn validate(&self, cached: u64) -> prefixsim::Result<()> {
        self.tree.validate(cached)
    }
}

/// What makes the policy: it goes wherever the name of one does.
struct Source;

impl PolicySource for Source {
    fn with<W: WithPolicy>(&self, setting: Setting<'_>, what: W) -> prefixsim::Result<W::Output> {
        Ok(what.run(LongestFirst::new(&setting)))
    }

    fn name(&self) -> &'static str {
        "longest-first"
    }
}

/// Hit blocks of our policy and of others, on conversations that take turns behind one system prompt.
fn hits() -> prefixsim::Result<Vec<(String, u32)>> {
    let (mut offsets, mut tokens, mut lengths) = (vec![0], Vec::new(), Vec::new());
    for turn in 1..=8_u32 {
        for session in 0..20_u32 {
            let system = 0..64;
            let chat = (0..turn * (4 + session % 5)).map(|i| 1000 * (session + 1) + i);
            tokens.extend(system.chain(chat));
            lengths.push(64 + turn * (4 + session % 5));
            offsets.push(tokens.len() as u64);
        }
    }
    let stop = Stop::default();
    let trace = Trace::new(Csr::new(&offsets, &tokens)?);
    let forest = Arc::new(Forest::compile(&trace, &stop)?);
    let profile = Profile::new(forest, 4, &lengths, &stop)?;
    let cache = Cache::of(60);
    let mut found = Vec::new();
    let own = profile.replay(Source, cache, Facts::default(), &stop)?;
    found.push((Source.name().to_string(), own.hit_blocks.iter().sum()));
    for name in ["lru", "clairvoyant"] {
        let policy: Policy = name.parse()?;
        let outcome = profile.replay(policy, cache, Facts::default(), &stop)?;
        found.push((name.to_string(), outcome.hit_blocks.iter().sum()));
    }
    Ok(found)
}

fn main() -> prefixsim::Result<()> {
    for (name, blocks) in hits()? {
        println!("{name}: {blocks} blocks hit");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_replayed_like_ours_and_hits_no_more_than_the_best() {
        let found = hits().unwrap();
        let [(_, own), (_, lru), (_, clairvoyant)] = &found[..] else {
            panic!("three policies")
        };
        assert!(*own > 0 && own != lru && own <= clairvoyant, "{found:?}");
    }
}
