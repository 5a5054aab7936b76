//! Tiers that serve requests, block by block.

use super::{Order, Sees, TierConfig, Write};
use crate::error::{Error, Result};
use crate::index::{to_f64, to_u32, to_usize};

/// What became of a request, in blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// Hits by tier.
    pub hits: Vec<u32>,
    /// Blocks written, by tier; those of the fastest are the computed and loaded ones that it took.
    pub written: Vec<u32>,
    /// Blocks that earlier requests had and that are in no tier, by the tier they left last.
    pub gone: Vec<u32>,
    /// Of such blocks, those whose uses were too few for a lower tier.
    pub too_rare: u32,
    /// Blocks that a tier has, behind one that no tier has.
    pub stranded: u32,
    /// Blocks that a tier has, but that took less time to compute than to load.
    pub slow: u32,
    /// Blocks that the fastest tier dropped.
    pub evictions: u32,
}

impl Served {
    fn reset(&mut self, tiers: usize) {
        for column in [&mut self.hits, &mut self.written, &mut self.gone] {
            column.clear();
            column.resize(tiers, 0);
        }
        (self.too_rare, self.stranded, self.slow, self.evictions) = (0, 0, 0, 0);
    }
}

/// Why a block is in no tier: it was too rare for a lower one. Smaller: the tier it left last.
const TOO_RARE: u8 = u8::MAX;
/// Tiers at most.
const MOST_TIERS: usize = 16;
/// "In no tier".
const NOWHERE: u8 = u8::MAX;

#[derive(Debug)]
struct Tier {
    config: TierConfig,
    capacity: usize,
    order: Order,
}

/// Tiers, the fastest first, and what they hold.
///
/// ```
/// use prefixsim::engine::tiers::{Hierarchy, TierConfig};
/// let tiers = [TierConfig::new(Some(1)), TierConfig::new(Some(2))];
/// let mut hierarchy = Hierarchy::new(&tiers, None, 4)?;
/// hierarchy.serve(&[0, 1], 2);
/// assert_eq!(hierarchy.serve(&[0, 1], 2).hits, [1, 1]);
/// # Ok::<(), prefixsim::Error>(())
/// ```
#[derive(Debug)]
pub struct Hierarchy {
    tiers: Vec<Tier>,
    /// Seconds that computing a block takes, if loading is a choice.
    compute: Option<f64>,
    /// Requests that had each block.
    uses: Vec<u32>,
    /// Why each block that was used is in no tier; means nothing of others.
    left: Vec<u8>,
    /// The last time a tier saw each block on the path that entered it: those seen now are kept.
    seen: Vec<u64>,
    now: u64,
    served: Served,
    /// The fastest tier of each block of the running path.
    places: Vec<u8>,
    dropped: Vec<u32>,
}

impl Hierarchy {
    /// Empty tiers for `blocks` blocks; `compute` seconds per block make loading a choice.
    ///
    /// # Errors
    /// [`Error::Range`] if there are no tiers or too many, the fastest holds nothing, or rules do not
    /// go together.
    pub fn new(tiers: &[TierConfig], compute: Option<f64>, blocks: usize) -> Result<Self> {
        if tiers.is_empty() || tiers.len() > MOST_TIERS {
            return Err(Error::range(format!(
                "{} tiers: give 1 to {MOST_TIERS}",
                tiers.len()
            )));
        }
        if tiers[0].capacity == Some(0) {
            return Err(Error::range(
                "the fastest tier holds nothing: give it a block",
            ));
        }
        for (k, tier) in tiers.iter().enumerate() {
            if tier.exclusive && (k == 0 || tier.write == Write::Through) {
                return Err(Error::range(format!(
                    "tier {k} is exclusive: that is a lower tier which is written back"
                )));
            }
            let times = [tier.latency, tier.seconds_per_block, compute.unwrap_or(0.0)];
            if times.iter().any(|t| !t.is_finite() || *t < 0.0) {
                return Err(Error::range(format!(
                    "tier {k}: a time is negative or not finite"
                )));
            }
        }
        let tiers = tiers
            .iter()
            .map(|config| Tier {
                config: *config,
                capacity: config.capacity.map_or(usize::MAX, to_usize),
                order: Order::new(config.policy, blocks),
            })
            .collect();
        Ok(Self {
            tiers,
            compute,
            uses: vec![0; blocks],
            left: vec![0; blocks],
            seen: vec![0; blocks],
            now: 0,
            served: Served::default(),
            places: Vec::new(),
            dropped: Vec::new(),
        })
    }

    /// Serves the next request: the blocks of its path, of which the first `limit` may hit.
    pub fn serve(&mut self, path: &[u32], limit: u32) -> &Served {
        self.served.reset(self.tiers.len());
        let limit = (limit as usize).min(path.len());
        self.look_up(path);
        let found = self.places.iter().position(|&k| k == NOWHERE);
        let reach = found.unwrap_or(path.len()).min(limit);
        let hit = self.worth_loading(reach, limit);
        for &k in &self.places[..hit] {
            self.served.hits[k as usize] += 1;
        }
        self.count_losses(path, hit, reach, limit);
        for &block in path {
            self.uses[block as usize] = self.uses[block as usize].saturating_add(1);
        }
        self.leave_exclusive_tiers(path);
        let outside = self.enter(0, path, 0);
        for &block in path[outside..].iter().rev() {
            // Behind the place where the room ends, what is not there was left out.
            if !self.tiers[0].order.contains(block) {
                self.fall(0, block);
            }
        }
        let missed = self.places[..hit].iter().position(|&k| k != 0);
        for k in 1..self.tiers.len() {
            if self.tiers[k].config.write == Write::Through {
                let start = match self.tiers[k].config.sees {
                    Sees::All => 0,
                    Sees::FromLoads => missed.unwrap_or(0),
                    Sees::Misses => missed.unwrap_or(hit),
                };
                self.enter(k, path, start);
            }
        }
        &self.served
    }

    /// Notes the fastest tier of each block.
    fn look_up(&mut self, path: &[u32]) {
        let tiers = &self.tiers;
        self.places.clear();
        self.places.extend(path.iter().map(|&block| {
            let place = tiers.iter().position(|tier| tier.order.contains(block));
            place.map_or(NOWHERE, to_u8)
        }));
    }

    /// How many of the first `reach` blocks, all found, are used: all, or fewer where computing is
    /// faster. Along blocks of one tier time is linear, so only ends of such runs are tried.
    fn worth_loading(&self, reach: usize, limit: usize) -> usize {
        let Some(compute) = self.compute else {
            return reach;
        };
        let places = &self.places[..reach];
        let start = places.iter().position(|&k| k > 0).unwrap_or(reach);
        let (mut best, mut least) = (reach, f64::INFINITY);
        let mut counts = [0_usize; MOST_TIERS];
        for cut in start..=reach {
            if cut == start || cut == reach || places[cut] != places[cut - 1] {
                let mut seconds = 0.0;
                for (tier, &count) in self.tiers.iter().zip(&counts).skip(1) {
                    if count > 0 {
                        let blocks = to_f64(count as u64);
                        seconds += tier.config.latency + blocks * tier.config.seconds_per_block;
                    }
                }
                seconds += to_f64((limit - cut) as u64) * compute;
                if seconds <= least {
                    (best, least) = (cut, seconds);
                }
            }
            if cut < reach {
                counts[places[cut] as usize] += 1;
            }
        }
        best
    }

    fn count_losses(&mut self, path: &[u32], hit: usize, reach: usize, limit: usize) {
        for (i, &block) in path.iter().enumerate().take(limit).skip(hit) {
            if self.uses[block as usize] == 0 {
                break;
            }
            if i < reach {
                self.served.slow += 1;
            } else if self.places[i] != NOWHERE {
                self.served.stranded += 1;
            } else if self.left[block as usize] == TOO_RARE {
                self.served.too_rare += 1;
            } else {
                self.served.gone[self.left[block as usize] as usize] += 1;
            }
        }
    }

    fn leave_exclusive_tiers(&mut self, path: &[u32]) {
        for tier in &mut self.tiers[1..] {
            if tier.config.exclusive {
                for &block in path {
                    tier.order.remove(block);
                }
            }
        }
    }

    /// What a tier sees of the path, from block `start` on, enters it as far as there is room besides
    /// that itself. Returns the place in the path from which on there was none.
    fn enter(&mut self, k: usize, path: &[u32], start: usize) -> usize {
        let Tier {
            config,
            capacity,
            order,
        } = &mut self.tiers[k];
        self.now += 1;
        let (now, uses) = (self.now, &self.uses);
        let mut there = 0;
        for &block in &path[start..] {
            self.seen[block as usize] = now;
            there += usize::from(order.contains(block));
        }
        let room = capacity.saturating_sub(there);
        let wanted = |block: u32| uses[block as usize] >= config.min_uses;
        let (mut entering, mut end) = (0, path.len());
        for (i, &block) in path.iter().enumerate().skip(start) {
            if wanted(block) && !order.contains(block) {
                if entering == room {
                    end = i;
                    break;
                }
                entering += 1;
            }
        }
        let mut dropped = std::mem::take(&mut self.dropped);
        let excess = (order.len() + entering).saturating_sub(*capacity);
        let seen = &self.seen;
        order.drain(excess, |block| seen[block as usize] == now, &mut dropped);
        if config.head_first {
            let there = |block: &&u32| order.contains(**block);
            let known: Vec<u32> = path[start..].iter().rev().filter(there).copied().collect();
            let new = path[start..end].iter().copied();
            let new: Vec<u32> = new.filter(|&b| wanted(b) && !order.contains(b)).collect();
            known.into_iter().chain(new).for_each(|b| order.touch(b));
        } else {
            for (i, &block) in path.iter().enumerate().skip(start).rev() {
                if order.contains(block) || (i < end && wanted(block)) {
                    order.touch(block);
                }
            }
        }
        self.served.written[k] += to_u32(entering);
        if k == 0 {
            self.served.evictions += to_u32(dropped.len());
        }
        for block in dropped.drain(..) {
            self.fall(k, block);
        }
        self.dropped = dropped;
        end
    }

    /// A block has left tier `k`, or found no room there: the tier below may take it.
    fn fall(&mut self, k: usize, block: u32) {
        let uses = self.uses[block as usize];
        if let Some(below) = self.tiers.get_mut(k + 1)
            && below.config.write == Write::Back
            && uses >= below.config.min_uses
        {
            if below.capacity == 0 {
                self.fall(k + 1, block);
            } else {
                let new = !below.order.contains(block);
                if new {
                    self.served.written[k + 1] += 1;
                    if below.order.len() == below.capacity
                        && let Some(victim) = below.order.pop()
                    {
                        self.fall(k + 1, victim);
                    }
                }
                self.tiers[k + 1].order.touch(block);
            }
        }
        if !self.tiers.iter().any(|tier| tier.order.contains(block)) {
            let rare = self.tiers[1..].iter().any(|t| uses < t.config.min_uses);
            self.left[block as usize] = if rare { TOO_RARE } else { to_u8(k) };
        }
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        for (k, tier) in self.tiers.iter().enumerate() {
            tier.order.validate()?;
            if tier.order.len() > tier.capacity {
                return Err(Error::bug(format!("tier {k} holds more than fits")));
            }
        }
        let all_exclusive = self.tiers[1..].iter().all(|tier| tier.config.exclusive);
        for block in 0..to_u32(self.uses.len()) {
            let holders = self
                .tiers
                .iter()
                .filter(|t| t.order.contains(block))
                .count();
            if holders > 0 && self.uses[block as usize] == 0 {
                return Err(Error::bug(format!(
                    "block {block} is there and was never used"
                )));
            }
            if all_exclusive && holders > 1 {
                return Err(Error::bug(format!(
                    "block {block} is in {holders} exclusive tiers"
                )));
            }
        }
        Ok(())
    }
}

#[allow(clippy::cast_possible_truncation)] // There are at most MOST_TIERS.
fn to_u8(tier: usize) -> u8 {
    tier as u8
}
