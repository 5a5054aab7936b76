//! The pieces turned around: who uses a stretch of blocks next.

use super::{Piece, Profile};

/// For each request, the stretches of its path by who uses them next: (depth in blocks where the
/// stretch ends, next request), ascending in both.
#[derive(Debug)]
pub(crate) struct NextUses {
    offsets: Vec<u32>,
    uses: Vec<(u32, u32)>,
}

impl NextUses {
    /// Turns the pieces of a profile around.
    pub fn of(profile: &Profile) -> Self {
        let requests = profile.requests();
        let mut offsets = vec![0u32; requests + 2];
        for t in 0..requests {
            for piece in profile.pieces(t) {
                offsets[piece.last_use as usize + 2] += 1;
            }
        }
        for i in 2..offsets.len() {
            offsets[i] += offsets[i - 1];
        }
        let mut uses = vec![(0, 0); profile.piece_count()];
        for t in 0..requests {
            for &Piece { end, last_use } in profile.pieces(t) {
                let place = &mut offsets[last_use as usize + 1];
                uses[*place as usize] = (end, t as u32);
                *place += 1;
            }
        }
        offsets.pop();
        Self { offsets, uses }
    }

    pub fn of_request(&self, t: usize) -> &[(u32, u32)] {
        &self.uses[self.offsets[t] as usize..self.offsets[t + 1] as usize]
    }
}
