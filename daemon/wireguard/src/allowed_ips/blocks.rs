//! Short runs of items that grow and shrink by one, side by side in one vector and named by where they start.
//!
//! Capacities are powers of two and follow from the length, so nothing but start and length need be stored. A run that
//! is given up is handed to the next one of its capacity: a table whose entries come and go does not grow.

/// Runs of up to 32 items.
#[derive(Debug, Clone)]
pub(super) struct Blocks<T> {
    items: Vec<T>,
    /// Starts of unused runs, by the logarithm of their capacity.
    free: [Vec<u32>; 6],
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            free: Default::default(),
        }
    }
}

impl<T: Copy + Default> Blocks<T> {
    #[inline]
    pub(super) fn get(&self, index: u32) -> &T {
        &self.items[index as usize]
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut T {
        &mut self.items[index as usize]
    }

    /// Puts `item` at place `at` of the run of `len` items that starts at `start` (ignored where `len` is 0).
    /// Returns where the run starts now.
    pub(super) fn insert(&mut self, start: u32, len: u32, at: u32, item: T) -> u32 {
        let target = if len > 0 && capacity(len + 1) == capacity(len) {
            start
        } else {
            self.allocate(len + 1)
        };
        let (from, to) = (start as usize, target as usize);
        let (len_, at_) = (len as usize, at as usize);
        if len > 0 {
            self.items.copy_within(from + at_..from + len_, to + at_ + 1);
            if from != to {
                self.items.copy_within(from..from + at_, to);
                self.release(start, len);
            }
        }
        self.items[to + at_] = item;
        target
    }

    /// Takes the item at place `at` out of the run of `len` items that starts at `start`. Returns where the run
    /// starts now; that is meaningless once it is empty.
    pub(super) fn remove(&mut self, start: u32, len: u32, at: u32) -> u32 {
        if len == 1 {
            self.release(start, 1);
            return start;
        }
        let target = if capacity(len - 1) == capacity(len) {
            start
        } else {
            self.allocate(len - 1)
        };
        let (from, to) = (start as usize, target as usize);
        let (len_, at_) = (len as usize, at as usize);
        if from != to {
            self.items.copy_within(from..from + at_, to);
        }
        self.items.copy_within(from + at_ + 1..from + len_, to + at_);
        if from != to {
            self.release(start, len);
        }
        target
    }

    /// Items held in memory, used or not.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> usize {
        self.items.len()
    }

    fn allocate(&mut self, len: u32) -> u32 {
        let capacity = capacity(len);
        self.free[capacity.trailing_zeros() as usize]
            .pop()
            .unwrap_or_else(|| {
                let start = self.items.len();
                self.items.resize(start + capacity as usize, T::default());
                start as u32
            })
    }

    fn release(&mut self, start: u32, len: u32) {
        self.free[capacity(len).trailing_zeros() as usize].push(start);
    }
}

fn capacity(len: u32) -> u32 {
    len.next_power_of_two()
}
