//! A value for each replica at each segment.

/// `N` values that fill a line of the processor's caches, which is where they begin.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line<T, const N: usize>([T; N]);

/// Values by segment, then replica. The row of a segment lies in one line of the processor's caches, if
/// the number of replicas divides `N`.
#[derive(Debug, Clone)]
pub(super) struct Rows<T, const N: usize> {
    lines: Vec<Line<T, N>>,
    replicas: usize,
}

impl<T: Copy + Default, const N: usize> Rows<T, N> {
    pub fn new(segments: usize, replicas: usize) -> Self {
        Self {
            lines: vec![Line([T::default(); N]); (segments * replicas).div_ceil(N)],
            replicas,
        }
    }

    #[inline]
    pub fn get(&self, at: u32, replica: usize) -> T {
        let place = at as usize * self.replicas + replica;
        self.lines[place / N].0[place % N]
    }

    #[inline]
    pub fn get_mut(&mut self, at: u32, replica: usize) -> &mut T {
        let place = at as usize * self.replicas + replica;
        &mut self.lines[place / N].0[place % N]
    }

    /// Sets the values of a replica back.
    pub fn clear(&mut self, replica: usize) {
        let values = self.lines.iter_mut().flat_map(|line| &mut line.0);
        for value in values.skip(replica).step_by(self.replicas) {
            *value = T::default();
        }
    }
}
