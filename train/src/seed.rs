//! Seeds of parts from the seed of the whole, so that no draw depends on how many came before it.

/// A seed for the part that `path` names, by the finaliser of SplitMix64 (Steele et al. 2014) over its numbers.
pub fn derive(seed: u64, path: &[u64]) -> u64 {
    path.iter().fold(mix(seed ^ 0x6c63_722d_7472_6169), |state, part| mix(state ^ mix(*part)))
}

fn mix(value: u64) -> u64 {
    let mut state = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_of_splitmix64_is_that_of_its_authors() {
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn paths_differ_by_order_and_length() {
        let seeds = [derive(1, &[]), derive(1, &[0]), derive(1, &[0, 1]), derive(1, &[1, 0]), derive(2, &[0, 1])];
        for (index, seed) in seeds.iter().enumerate() {
            assert!(!seeds[index + 1..].contains(seed));
        }
    }
}
