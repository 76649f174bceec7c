/* The kernels for NEON, which every 64-bit ARM has: two rows at a time, one in each 64-bit lane.
 *
 * `umlal` multiplies 32 bits to 64 and adds, on most cores once a cycle for two lanes: limbs of 27 bits, 729 of the bits
 * of a product a lane. Doubles take six for 2601 bits, with the copy of a sum that `fmla` overwrites, and cores start two
 * to four of those each cycle: 867 bits or more. So the algorithm is that of AVX2. */
#include "kernels.h"

#include <arm_neon.h>

typedef uint64x2_t V;
typedef float64x2_t D;

enum { LANES = 2 };

INLINE V all(uint64_t word) { return vdupq_n_u64(word); }
INLINE V zero(void) { return all(0); }
INLINE V add(V a, V b) { return vaddq_u64(a, b); }
INLINE V sub(V a, V b) { return vsubq_u64(a, b); }
INLINE V both(V a, V b) { return vandq_u64(a, b); }
INLINE V either(V a, V b) { return vorrq_u64(a, b); }
INLINE V or_masked(V sum, V a, V mask) { return vorrq_u64(sum, vandq_u64(a, mask)); }
INLINE V differing(V a, V b) { return veorq_u64(a, b); }
INLINE V top_bit(V a) { return vshrq_n_u64(a, 63); }
INLINE V high_half(V a) { return vshrq_n_u64(a, 32); }
INLINE V to_high_half(V a) { return vshlq_n_u64(a, 32); }
INLINE V times_32(V a, V b) { return vmull_u32(vmovn_u64(a), vmovn_u64(b)); }

/* Words with a sign, divided by 2^51. */
INLINE V high_bits(V a) { return vreinterpretq_u64_s64(vshrq_n_s64(vreinterpretq_s64_u64(a), 51)); }

INLINE D all_doubles(double number) { return vdupq_n_f64(number); }
INLINE D as_doubles(V a) { return vreinterpretq_f64_u64(a); }
INLINE V as_words(D a) { return vreinterpretq_u64_f64(a); }
INLINE D less(D a, D b) { return vsubq_f64(a, b); }
INLINE D fused(D a, D b, D plus) { return vfmaq_f64(plus, a, b); }

INLINE V load_words(const uint64_t *words) { return vld1q_u64(words); }
INLINE void store_words(uint64_t *words, V a) { vst1q_u64(words, a); }

INLINE void transpose(V r[2]) {
    const V low = vzip1q_u64(r[0], r[1]);
    r[1] = vzip2q_u64(r[0], r[1]);
    r[0] = low;
}

#include "doubles.h"

#include "lanes.h"

const struct kernels xtrace_neon = KERNELS("neon", 1);

INLINE V load_half_words(const uint32_t *words) { return vmovl_u32(vld1_u32(words)); }
INLINE void store_half_words(uint32_t *words, V a) { vst1_u32(words, vmovn_u64(a)); }
INLINE V left(V a, int bits) { return vshlq_u64(a, vdupq_n_s64(bits)); }
INLINE V right(V a, int bits) { return vshlq_u64(a, vdupq_n_s64(-bits)); }
INLINE V less_if_reached(V a, V bound) { /* the high halves are 0 in a */
    return vreinterpretq_u64_u32(vminq_u32(vreinterpretq_u32_u64(a), vreinterpretq_u32_u64(sub(a, bound))));
}

typedef uint32x4_t W;

enum { WIDE = 4 };

INLINE W wide_all(uint32_t word) { return vdupq_n_u32(word); }
INLINE W wide_add(W a, W b) { return vaddq_u32(a, b); }
INLINE W wide_sub(W a, W b) { return vsubq_u32(a, b); }
INLINE W wide_both(W a, W b) { return vandq_u32(a, b); }
INLINE W wide_right(W a, int bits) { return vshlq_u32(a, vdupq_n_s32(-bits)); }
INLINE W wide_least(W a, W b) { return vminq_u32(a, b); }
INLINE W wide_low(W a, W b) { return vmulq_u32(a, b); }
INLINE W wide_high(W a, W b) {
    const V low = vmull_u32(vget_low_u32(a), vget_low_u32(b)), high = vmull_high_u32(a, b);
    return vuzp2q_u32(vreinterpretq_u32_u64(low), vreinterpretq_u32_u64(high));
}
INLINE W load_wide(const uint32_t *words) { return vld1q_u32(words); }
INLINE void store_wide(uint32_t *words, W a) { vst1q_u32(words, a); }

INLINE void wide_transpose(W r[4]) {
    V a = vreinterpretq_u64_u32(vtrn1q_u32(r[0], r[1])), b = vreinterpretq_u64_u32(vtrn2q_u32(r[0], r[1]));
    V c = vreinterpretq_u64_u32(vtrn1q_u32(r[2], r[3])), d = vreinterpretq_u64_u32(vtrn2q_u32(r[2], r[3]));
    r[0] = vreinterpretq_u32_u64(vzip1q_u64(a, c));
    r[1] = vreinterpretq_u32_u64(vzip1q_u64(b, d));
    r[2] = vreinterpretq_u32_u64(vzip2q_u64(a, c));
    r[3] = vreinterpretq_u32_u64(vzip2q_u64(b, d));
}

#include "lattice.h"

const struct lattice_kernels xtrace_neon_lattice = LATTICE_KERNELS("neon");
