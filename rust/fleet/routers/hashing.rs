//! Rules that look at a request's session key only, by hash.

use md5::{Digest, Md5};

use crate::fleet::replicas::Replicas;
use crate::fleet::router::{Arrival, Decision, Router, Setting, View};

/// The 64-bit hash of a key, as sglang-router 0.3.2 makes it: the first 8 bytes of BLAKE3, little endian.
///
/// ```
/// assert_eq!(prefixsim::fleet::blake3_key("conv-0") % 4, 1);
/// ```
#[must_use]
pub fn blake3_key(key: &str) -> u64 {
    let hash = blake3::hash(key.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// The MD5 of a key as a number.
fn md5_key(key: &str) -> u128 {
    let digest: [u8; 16] = Md5::digest(key.as_bytes()).into();
    u128::from_be_bytes(digest)
}

fn keys<T>(setting: &Setting<'_>, hash: impl Fn(&str) -> T) -> Vec<T> {
    let names = setting.traffic.columns().session_names.iter();
    names.map(|name| hash(name)).collect()
}

/// sglang-router 0.3.2 `consistent_hashing` over HTTP: the hash modulo the number of replicas. It moves
/// almost every key when a replica is added.
#[derive(Debug)]
pub struct HashModulo {
    keys: Vec<u64>,
}

impl HashModulo {
    /// Hashes every session.
    #[must_use]
    pub fn new(setting: &Setting<'_>) -> Self {
        Self {
            keys: keys(setting, blake3_key),
        }
    }
}

impl Router for HashModulo {
    #[allow(clippy::cast_possible_truncation)] // Below the number of replicas.
    fn route(&mut self, arrival: &Arrival, view: &View<'_>) -> Decision {
        let place = self.keys[arrival.session as usize] % view.available.len() as u64;
        Decision::one(view.available.nth(place as usize))
    }
}

/// A ring of points, each of a replica, sorted.
#[derive(Debug)]
struct Ring<T> {
    points: Vec<(T, usize)>,
}

impl<T: Ord + Copy> Ring<T> {
    fn new(replicas: Replicas, count: u32, point: impl Fn(usize, u32) -> T) -> Self {
        let of = |replica| (0..count).map(move |i| (replica, i));
        let mut points: Vec<(T, usize)> = replicas
            .into_iter()
            .flat_map(of)
            .map(|(replica, i)| (point(replica, i), replica))
            .collect();
        points.sort_unstable();
        Self { points }
    }

    /// The replica of the first point for which `reached` holds; of the first one if there is none.
    fn replica(&self, reached: impl Fn(T) -> bool) -> usize {
        let place = self.points.partition_point(|&(point, _)| !reached(point));
        self.points[if place < self.points.len() { place } else { 0 }].1
    }
}

/// Consistent hashing on a ring with 150 points a replica, BLAKE3 of `url#i`: later versions of the
/// SGLang router. A replica that is added takes its share of the keys from the others, and no more.
#[derive(Debug)]
pub struct ConsistentHash {
    keys: Vec<u64>,
    urls: Vec<String>,
    points: u32,
    ring: Ring<u64>,
}

impl ConsistentHash {
    /// A ring of `points` for each of the `urls`.
    #[must_use]
    pub fn new(setting: &Setting<'_>, urls: Vec<String>, points: u32) -> Self {
        let ring = Self::ring(&urls, points, setting.available);
        Self {
            keys: keys(setting, blake3_key),
            urls,
            points,
            ring,
        }
    }

    fn ring(urls: &[String], points: u32, replicas: Replicas) -> Ring<u64> {
        Ring::new(replicas, points, |replica, i| {
            blake3_key(&format!("{}#{i}", urls[replica]))
        })
    }
}

impl Router for ConsistentHash {
    fn route(&mut self, arrival: &Arrival, _: &View<'_>) -> Decision {
        let key = self.keys[arrival.session as usize];
        Decision::one(self.ring.replica(|point| point >= key))
    }

    fn resized(&mut self, available: Replicas) {
        self.ring = Self::ring(&self.urls, self.points, available);
    }
}

/// The session router of vLLM's production-stack (a6c01db): a ring of MD5, 160 points `url-i` a replica,
/// the first one behind the key.
#[derive(Debug)]
pub struct SessionRing {
    keys: Vec<u128>,
    urls: Vec<String>,
    ring: Ring<u128>,
}

impl SessionRing {
    const POINTS: u32 = 160;

    /// A ring of the `urls`.
    #[must_use]
    pub fn new(setting: &Setting<'_>, urls: Vec<String>) -> Self {
        let ring = Self::ring(&urls, setting.available);
        Self {
            keys: keys(setting, md5_key),
            urls,
            ring,
        }
    }

    fn ring(urls: &[String], replicas: Replicas) -> Ring<u128> {
        Ring::new(replicas, Self::POINTS, |replica, i| {
            md5_key(&format!("{}-{i}", urls[replica]))
        })
    }
}

impl Router for SessionRing {
    fn route(&mut self, arrival: &Arrival, _: &View<'_>) -> Decision {
        let key = self.keys[arrival.session as usize];
        Decision::one(self.ring.replica(|point| point > key))
    }

    fn resized(&mut self, available: Replicas) {
        self.ring = Self::ring(&self.urls, available);
    }
}
