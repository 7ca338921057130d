//! What an allocation takes in truth: allocators round it up to one of their size classes.

/// What jemalloc takes for an allocation of `size` bytes: multiples of 16 to 128, then four
/// classes for each doubling.
pub fn size_class(size: usize) -> usize {
    let size = size.max(16);
    let step = if size <= 128 { 16 } else { size.next_power_of_two() / 8 };
    size.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::size_class;

    #[test]
    fn size_classes_are_jemallocs() {
        for (size, class) in [
            (1, 16),
            (16, 16),
            (17, 32),
            (128, 128),
            (129, 160),
            (160, 160),
            (161, 192),
            (256, 256),
            (257, 320),
            (4097, 5120),
            (16384, 16384),
            (16385, 20480),
        ] {
            assert_eq!(size_class(size), class, "{size}");
        }
    }
}
