//! Whether the hash ids of a trace are chained.

use rayon::prelude::*;

use super::Forest;
use crate::error::Result;
use crate::stop::Stop;
use crate::trace::Csr;

impl Forest {
    /// The ids that follow more than one prefix, each once, ascending.
    ///
    /// In a trace of chained hash ids an id stands for its tokens and all before them, so it has one
    /// place in the forest. Ids that hash the tokens of their block alone have several.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`] if asked to stop.
    ///
    /// # Panics
    /// If `prompts` is not the column the forest was compiled from.
    pub fn unchained_ids(&self, prompts: &Csr<'_, u64>, stop: &Stop) -> Result<Vec<u64>> {
        let mut unchained = Vec::new();
        let mut ids: Vec<u64> = Vec::new();
        // Preorder: the nodes of one root are neighbours. Roots are their own parents.
        for node in 0..self.nodes() {
            let (parent, end) = (self.parent()[node] as usize, self.end()[node] as usize);
            if parent == node {
                stop.check()?;
                take_repeated(&mut ids, &mut unchained);
                continue;
            }
            let sequence = prompts.list(self.representative()[node] as usize);
            ids.extend_from_slice(&sequence[self.end()[parent] as usize..end]);
        }
        take_repeated(&mut ids, &mut unchained);
        unchained.sort_unstable();
        unchained.dedup();
        Ok(unchained)
    }
}

/// Moves the ids that occur more than once to `repeated`, and clears `ids`.
fn take_repeated(ids: &mut Vec<u64>, repeated: &mut Vec<u64>) {
    ids.par_sort_unstable();
    repeated.extend(
        ids.windows(2)
            .filter(|pair| pair[0] == pair[1])
            .map(|pair| pair[0]),
    );
    ids.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Trace;

    fn unchained(rows: &[&[u64]], salt: Option<&[u32]>) -> Vec<u64> {
        let offsets: Vec<u64> = (0..=rows.len())
            .map(|n| rows[..n].iter().map(|row| row.len() as u64).sum())
            .collect();
        let values = rows.concat();
        let prompts = Csr::new(&offsets, &values).unwrap();
        let mut trace = Trace::new(prompts);
        if let Some(codes) = salt {
            trace = trace.salt(codes).unwrap();
        }
        let forest = Forest::compile(&trace, &Stop::default()).unwrap();
        forest.unchained_ids(&prompts, &Stop::default()).unwrap()
    }

    #[test]
    fn ids_with_two_prefixes_are_found() {
        assert_eq!(unchained(&[&[1, 2, 3], &[1, 2, 4], &[5]], None), [0; 0]);
        assert_eq!(
            unchained(&[&[1, 2, 3], &[5, 2, 3], &[5, 1]], None),
            [1, 2, 3]
        );
        assert_eq!(unchained(&[&[1, 1, 1]], None), [1]);
        assert_eq!(
            unchained(&[&[1, 2], &[1, 2]], Some(&[0, 1])),
            [0; 0],
            "salts are apart"
        );
    }
}
