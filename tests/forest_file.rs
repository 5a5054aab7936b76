//! Stored forests: whatever bytes are read, they are the forest of the trace, or refused.

use prefixsim::forest::Columns;
use prefixsim::trace::{Csr, Trace};
use prefixsim::{Error, Forest, Stop};
use proptest::prelude::*;
use xxhash_rust::xxh3::Xxh3;

const HEAD: usize = 80;
/// In place of a request, for roots.
const NO: u32 = u32::MAX;
const DIGEST: [u8; 16] = *b"0123456789abcdef";

/// A trace of few tokens that share much.
#[derive(Debug, Clone)]
struct Rows {
    offsets: Vec<u64>,
    tokens: Vec<u32>,
    output_offsets: Vec<u64>,
    output: Vec<u32>,
    salt: Vec<u32>,
}

impl Rows {
    fn trace(&self, outputs: bool) -> Trace<'_, u32> {
        let trace = Trace::new(Csr::new(&self.offsets, &self.tokens).unwrap());
        let trace = trace.salt(&self.salt).unwrap();
        if outputs {
            let column = Csr::new(&self.output_offsets, &self.output).unwrap();
            return trace.outputs(column).unwrap();
        }
        trace
    }
}

fn csr(lists: &[Vec<u32>]) -> (Vec<u64>, Vec<u32>) {
    let mut offsets = vec![0];
    for list in lists {
        offsets.push(offsets[offsets.len() - 1] + list.len() as u64);
    }
    (offsets, lists.concat())
}

prop_compose! {
    fn rows()(
        lists in prop::collection::vec(
            (prop::collection::vec(0..3_u32, 0..8), prop::collection::vec(0..2_u32, 0..4), 0..2_u32),
            1..8,
        )
    ) -> Rows {
        let (offsets, tokens) = csr(&lists.iter().map(|l| l.0.clone()).collect::<Vec<_>>());
        let (output_offsets, output) = csr(&lists.iter().map(|l| l.1.clone()).collect::<Vec<_>>());
        let salt = lists.iter().map(|l| l.2).collect();
        Rows { offsets, tokens, output_offsets, output, salt }
    }
}

/// Puts the right checksum on bytes that were changed by hand.
fn seal(bytes: &mut [u8]) {
    let mut hasher = Xxh3::new();
    hasher.update(&bytes[..64]);
    hasher.update(&bytes[HEAD..]);
    let sum = hasher.digest128().to_le_bytes();
    bytes[64..HEAD].copy_from_slice(&sum);
}

/// What a forest says that does not depend on which request stands for a node.
fn answers(forest: &Forest) -> (Vec<u32>, Vec<u32>, Vec<u32>, Option<Vec<u32>>) {
    (
        forest.parent().to_vec(),
        forest.end().to_vec(),
        forest.prompt_node().to_vec(),
        forest.output_node().map(<[u32]>::to_vec),
    )
}

proptest! {
    #[test]
    fn bytes_give_the_forest_back(rows in rows(), outputs: bool) {
        let trace = rows.trace(outputs);
        let forest = Forest::compile(&trace, &Stop::default()).unwrap();
        forest.validate().unwrap();
        let bytes = forest.to_bytes(DIGEST);
        prop_assert_eq!(Forest::from_bytes(&bytes, DIGEST, &trace).unwrap(), forest);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed(rows in rows(), outputs: bool) {
        let trace = rows.trace(outputs);
        let bytes = Forest::compile(&trace, &Stop::default()).unwrap().to_bytes(DIGEST);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let read = Forest::from_bytes(&damaged, DIGEST, &trace);
            prop_assert!(matches!(read, Err(Error::Damaged(_))), "bit {}", bit);
        }
        for end in 0..bytes.len() {
            prop_assert!(Forest::from_bytes(&bytes[..end], DIGEST, &trace).is_err(), "end {}", end);
        }
    }

    #[test]
    fn sealed_by_hand_it_is_refused_or_says_the_same(
        rows in rows(),
        outputs: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..12_u32), 1..4),
    ) {
        let trace = rows.trace(outputs);
        let forest = Forest::compile(&trace, &Stop::default()).unwrap();
        let mut bytes = forest.to_bytes(DIGEST);
        for (place, value) in changes {
            let words = (bytes.len() - HEAD) / 4;
            let at = HEAD + 4 * place.index(words.max(1));
            if words > 0 {
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        seal(&mut bytes);
        if let Ok(read) = Forest::from_bytes(&bytes, DIGEST, &trace) {
            read.validate().unwrap();
            // Nodes may be numbered in another order, heavy paths be others: blocks are the same.
            for size in 1..9 {
                prop_assert_eq!(read.unique_blocks(size), forest.unique_blocks(size));
            }
            let all = [u32::MAX; 8];
            prop_assert_eq!(
                read.session_depth(&all[..read.requests()], &Stop::default()),
                forest.session_depth(&all[..read.requests()], &Stop::default())
            );
            if answers(&read).0 == answers(&forest).0 {
                prop_assert_eq!(answers(&read), answers(&forest));
            }
        }
    }
}

#[test]
fn forests_that_share_nothing_or_too_much_are_refused() {
    let (offsets, tokens) = csr(&[vec![1, 2, 3], vec![1, 2, 3], vec![1, 9]]);
    let trace = Trace::new(Csr::new(&offsets, &tokens).unwrap());
    let made = |parent: Vec<u32>, end: Vec<u32>, guide: Vec<u32>, node: Vec<u32>| {
        let forest = Forest::from_columns(Columns {
            tokens_per_id: 1,
            partial_blocks: false,
            parent,
            end,
            representative: guide,
            prompt_node: node,
            output_node: None,
        })?;
        Forest::from_bytes(&forest.to_bytes(DIGEST), DIGEST, &trace).map(|_| ())
    };
    let right = made(
        vec![0, 0, 1, 1],
        vec![0, 1, 3, 2],
        vec![NO, 0, 0, 2],
        vec![2, 2, 3],
    );
    assert_eq!(right, Ok(()));
    let words = |result: Result<(), Error>| result.unwrap_err().to_string();
    let apart = made(
        vec![0, 0, 0, 0],
        vec![0, 3, 3, 2],
        vec![NO, 0, 1, 2],
        vec![1, 2, 3],
    );
    assert!(words(apart).contains("begin with the same id"));
    let merged = made(vec![0, 0, 1], vec![0, 2, 3], vec![NO, 0, 0], vec![2, 2, 1]);
    assert!(words(merged).contains("request 2 has another id at 1"));
    let short = made(vec![0], vec![0], vec![NO], vec![0, 0, 0]);
    assert!(words(short).contains("another length"));
    let unordered = made(
        vec![0, 0, 0, 1],
        vec![0, 1, 2, 3],
        vec![NO, 0, 2, 0],
        vec![3, 3, 2],
    );
    assert!(words(unordered).contains("in preorder"));
    let stranger = made(
        vec![0, 0, 1, 1],
        vec![0, 1, 3, 2],
        vec![NO, 0, 2, 2],
        vec![2, 2, 3],
    );
    assert!(words(stranger).contains("does not pass through node 2"));
}

#[test]
fn large_forests_are_checked_at_random_places() {
    // 4,000 prompts of 40 ids: more than are compared one by one.
    let rows: Vec<Vec<u32>> = (0..4000)
        .map(|i| (0..40).map(|k| if k < 20 { i % 7 } else { i }).collect())
        .collect();
    let (offsets, tokens) = csr(&rows);
    let trace = Trace::new(Csr::new(&offsets, &tokens).unwrap());
    let forest = Forest::compile(&trace, &Stop::default()).unwrap();
    let bytes = forest.to_bytes(DIGEST);
    assert_eq!(Forest::from_bytes(&bytes, DIGEST, &trace), Ok(forest));
    // The same forest for prompts that share nothing: lengths fit, ids do not.
    let other: Vec<u32> = (0..160_000).collect();
    let trace = Trace::new(Csr::new(&offsets, &other).unwrap());
    let read = Forest::from_bytes(&bytes, DIGEST, &trace);
    assert!(read.unwrap_err().to_string().contains("has another id"));
    // And one without any sharing for prompts that share.
    let unshared = Forest::compile(&trace, &Stop::default()).unwrap();
    let trace = Trace::new(Csr::new(&offsets, &tokens).unwrap());
    let read = Forest::from_bytes(&unshared.to_bytes(DIGEST), DIGEST, &trace);
    assert!(
        read.unwrap_err()
            .to_string()
            .contains("begin with the same id")
    );
}

#[test]
fn other_flags_and_other_salts_are_refused() {
    let rows = |salt: &[u32]| Rows {
        offsets: vec![0, 3, 6],
        tokens: vec![1, 2, 3, 1, 2, 3],
        output_offsets: vec![0, 1, 2],
        output: vec![5, 6],
        salt: salt.to_vec(),
    };
    let (one, two) = (rows(&[0, 0]), rows(&[0, 1]));
    for (made, read) in [(&one, &two), (&two, &one)] {
        let forest = Forest::compile(&made.trace(false), &Stop::default()).unwrap();
        let bytes = forest.to_bytes(DIGEST);
        assert!(Forest::from_bytes(&bytes, DIGEST, &made.trace(false)).is_ok());
        assert!(Forest::from_bytes(&bytes, DIGEST, &read.trace(false)).is_err());
    }
    let trace = one.trace(true).keep_partial_blocks();
    let mut bytes = Forest::compile(&trace, &Stop::default())
        .unwrap()
        .to_bytes(DIGEST);
    assert!(Forest::from_bytes(&bytes, DIGEST, &trace).is_ok());
    for flags in [4, 8, u32::MAX] {
        bytes[24..28].copy_from_slice(&flags.to_le_bytes());
        seal(&mut bytes);
        assert!(Forest::from_bytes(&bytes, DIGEST, &trace).is_err());
    }
}
