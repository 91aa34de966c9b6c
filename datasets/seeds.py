"""One seed per sample, so that a sample depends on (seed of the run, its number) and on nothing else."""

BITS_64 = 0xFFFFFFFFFFFFFFFF


def sample_seed(seed: int, index: int) -> int:
    """A 63-bit seed for sample `index` of run `seed`; both at least 0.

    torch's CPU generator reads the low 32 bits only, and 32 random bits would repeat among some ten thousand samples.
    So the run's hash (splitmix64) is combined with an odd multiple of the index, which is a permutation of 32 bits: no
    two of the first 2³² samples of a run share a stream.
    """
    z = (seed + 1) * 0x9E3779B97F4A7C15 & BITS_64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & BITS_64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & BITS_64
    return (z ^ (z >> 31) ^ index * 0xD1B54A32D192ED03) & 0x7FFFFFFFFFFFFFFF
