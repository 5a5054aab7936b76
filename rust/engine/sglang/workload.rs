//! A trace compiled for the engine: sequences compared through the forest, never token by token.

use super::sequences::Sequences;
use crate::error::{Error, Result};
use crate::forest::Forest;
use crate::index::to_u32;
use crate::index::{IndexVec, PathIx, RequestIx};
use crate::serving::Requests;

/// Marks positions behind what the forest knows of a request: no other request gets there.
const OWN: u64 = 1 << 63;

/// A heavy path of the forest, as far as comparing sequences needs it.
#[derive(Debug, Clone, Copy)]
struct Path {
    /// The path it hangs on; [`None`] for one that starts at a root.
    up: Option<PathIx>,
    /// Depth at which it leaves that path, in units.
    top: u32,
}

/// Where the known sequence of a request ends in the forest.
#[derive(Debug, Clone, Copy)]
struct End {
    path: PathIx,
    /// Depth in units.
    units: u32,
    /// Depth in tokens.
    tokens: u32,
}

/// The columns of a trace besides its sequences; all of equal length.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'t> {
    /// Tokens per prompt.
    pub prompt_len: &'t [u32],
    /// Tokens each request samples; at least one is sampled.
    pub output_len: &'t [u32],
    /// Arrival in nanoseconds, ascending.
    pub arrival_ns: &'t [u64],
    /// Priorities; none: all 0.
    pub priority: Option<&'t [i32]>,
    /// Order of the requests by id, where that decides (`hrrn`); none: their order in the trace.
    pub id_rank: Option<&'t [u32]>,
}

/// A trace compiled for the engine.
///
/// A position in a sequence is a heavy path of the forest and a depth, so two sequences are compared
/// by climbing paths, a logarithmic number of steps at most, whatever their lengths. Outputs that are
/// not known are taken to be unlike any others.
#[derive(Debug, Clone)]
pub struct Workload {
    unit: u32,
    paths: IndexVec<PathIx, Path>,
    ends: Vec<End>,
    requests: Requests,
    priority: Vec<i32>,
    id_rank: Vec<u32>,
}

impl Workload {
    /// Compiles a trace. The forest holds its prompts, with partial units kept, and its outputs whole,
    /// as far as they are known.
    ///
    /// # Errors
    /// [`Error::Range`] if the columns do not fit together, a prompt is empty, or a prompt and its
    /// output are more than 2^32 - 1 tokens.
    pub fn new(forest: &Forest, columns: &Columns<'_>) -> Result<Self> {
        let requests = columns.prompt_len.len();
        let lengths = [
            Some(forest.requests()),
            Some(columns.output_len.len()),
            Some(columns.arrival_ns.len()),
            columns.priority.map(<[i32]>::len),
            columns.id_rank.map(<[u32]>::len),
        ];
        if lengths.iter().flatten().any(|&length| length != requests) {
            return Err(Error::range("the columns of the trace differ in length"));
        }
        let paths: Vec<Path> = forest
            .paths()
            .iter()
            .map(|path| Path {
                up: path.up,
                top: path.top,
            })
            .collect();
        let mut workload = Self {
            unit: forest.tokens_per_id(),
            paths: paths.into(),
            ends: Vec::with_capacity(requests),
            requests: Requests::new(columns.prompt_len, columns.output_len, columns.arrival_ns)?,
            priority: columns.priority.map_or(vec![0; requests], <[i32]>::to_vec),
            id_rank: columns
                .id_rank
                .map_or_else(|| (0..to_u32(requests)).collect(), <[u32]>::to_vec),
        };
        for (request, &node) in (0..).zip(forest.last_node()) {
            let end = workload.end(forest, request, node);
            workload.ends.push(end);
        }
        Ok(workload)
    }

    fn end(&self, forest: &Forest, request: u32, node: u32) -> End {
        let (prompt, output) = (self.prompt_len(request), self.output_len(request));
        let units = forest.end()[node as usize];
        let tokens = u64::from(units) * u64::from(self.unit);
        // The last hash id of a prompt may stand for fewer tokens than a unit.
        let known = if self.unit == 1 {
            prompt + output
        } else {
            prompt
        };
        End {
            path: forest.path_of_request(RequestIx::new(request)),
            units,
            tokens: to_u32(tokens.min(u64::from(known))),
        }
    }

    /// When requests arrive and how long they are.
    #[must_use]
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Number of requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether there are no requests.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Tokens of a prompt; at least 1.
    #[must_use]
    pub fn prompt_len(&self, request: u32) -> u32 {
        self.requests.prompt_len(request)
    }

    /// Tokens a request samples; at least 1.
    #[must_use]
    pub fn output_len(&self, request: u32) -> u32 {
        self.requests.output_len(request)
    }

    /// Priority of a request; a higher number is more urgent.
    #[must_use]
    pub fn priority(&self, request: u32) -> i64 {
        i64::from(self.priority[request as usize])
    }

    /// Place of a request in the order of ids.
    #[must_use]
    pub fn id_rank(&self, request: u32) -> u32 {
        self.id_rank[request as usize]
    }

    /// A number that two requests share if and only if their first `depth` tokens are equal.
    #[must_use]
    pub fn position(&self, request: u32, depth: u32) -> u64 {
        let end = self.ends[request as usize];
        if depth > end.tokens {
            return OWN | (u64::from(request) << 32) | u64::from(depth);
        }
        let units = depth.div_ceil(self.unit);
        let mut path = end.path;
        while let Path { up: Some(up), top } = self.paths[path]
            && top >= units
        {
            path = up;
        }
        (u64::from(path.get()) << 32) | u64::from(depth)
    }

    /// Leading tokens that two requests have in common.
    #[must_use]
    pub fn common(&self, a: u32, b: u32) -> u32 {
        let (mut a, mut b) = (self.ends[a as usize], self.ends[b as usize]);
        let tokens = a.tokens.min(b.tokens);
        // Paths are numbered from the roots down: the one with the higher number leaves the other.
        while a.path != b.path {
            let end = if a.path > b.path { &mut a } else { &mut b };
            let path = self.paths[end.path];
            let Some(up) = path.up else {
                return 0;
            };
            (end.path, end.units) = (up, path.top);
        }
        let common = u64::from(a.units.min(b.units)) * u64::from(self.unit);
        to_u32(common.min(u64::from(tokens)))
    }
}

impl Sequences for &Workload {
    fn page_key(&self, sequence: u32, start: u32, page: u32) -> u64 {
        self.position(sequence, start + page)
    }

    fn same_page(&self, _: u32, _: u32, _: u32, _: u32) -> bool {
        true
    }

    fn common(&self, a: u32, b: u32, _from: u32, to: u32) -> u32 {
        Workload::common(self, a, b).min(to)
    }

    fn hold(&mut self, _: u32) {}

    fn release(&mut self, _: u32) {}
}
