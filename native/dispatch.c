/* The one place that looks at the processor. */
#include "kernels.h"

#ifdef _MSC_VER
#include <intrin.h>

/* Whether the processor has an instruction set: a bit of word 1 (ebx) or 2 (ecx) of a leaf of `cpuid`. */
static int has(int leaf, int word, int bit) {
    int words[4];
    __cpuidex(words, 0, 0);
    if (words[0] < leaf) return 0;
    __cpuidex(words, leaf, 0);
    return words[word] >> bit & 1;
}

/* Whether the system keeps these registers when it switches between programs. */
__attribute__((target("xsave"))) static int keeps(unsigned long long registers) { return has(1, 2, 27) && (_xgetbv(0) & registers) == registers; }

#define HAS_AVX2() (keeps(0x06) && has(7, 1, 5))
#define HAS_FMA() has(1, 2, 12)
#define HAS_IFMA()                                                                                              \
    (keeps(0xe6) && has(7, 1, 16) && has(7, 1, 17) && has(7, 1, 30) && has(7, 1, 31) && has(7, 1, 21) && has(7, 2, 1))
#define HAS_VNNI() (keeps(0xe6) && has(7, 1, 16) && has(7, 1, 30) && has(7, 2, 11))
#else
#define HAS_AVX2() __builtin_cpu_supports("avx2")
#define HAS_FMA() __builtin_cpu_supports("fma")
#define HAS_IFMA()                                                                                            \
    (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && \
     __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512ifma") && __builtin_cpu_supports("avx512vbmi"))
#define HAS_VNNI()                                                             \
    (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && \
     __builtin_cpu_supports("avx512vnni"))
#endif

static const struct kernels *supported[4];
static const struct code_kernel *supported_codes[4];
static const struct lattice_kernels *supported_lattice[5];

const struct kernels *const *xtrace_supported_kernels(void) {
    size_t count = 0;
#ifdef XTRACE_HAVE_IFMA
    if (HAS_IFMA()) supported[count++] = &xtrace_ifma;
#endif
#ifdef XTRACE_HAVE_AVX2
    if (HAS_AVX2() && HAS_FMA()) supported[count++] = &xtrace_avx2;
#endif
#ifdef XTRACE_HAVE_NEON
    supported[count++] = &xtrace_neon; /* part of the architecture */
#endif
    supported[count] = 0;
    return supported;
}

const struct code_kernel *const *xtrace_supported_code_kernels(void) {
    size_t count = 0;
#ifdef XTRACE_HAVE_VNNI
    if (HAS_VNNI()) supported_codes[count++] = &xtrace_vnni_codes;
#endif
#ifdef XTRACE_HAVE_AVX2
    if (HAS_AVX2()) supported_codes[count++] = &xtrace_avx2_codes;
#endif
    supported_codes[count++] = &xtrace_plain_codes;
    supported_codes[count] = 0;
    return supported_codes;
}

const struct lattice_kernels *const *xtrace_supported_lattice_kernels(void) {
    size_t count = 0;
#ifdef XTRACE_HAVE_IFMA
    if (HAS_IFMA()) supported_lattice[count++] = &xtrace_ifma_lattice;
#endif
#ifdef XTRACE_HAVE_AVX2
    if (HAS_AVX2() && HAS_FMA()) supported_lattice[count++] = &xtrace_avx2_lattice;
#endif
#ifdef XTRACE_HAVE_NEON
    supported_lattice[count++] = &xtrace_neon_lattice;
#endif
    supported_lattice[count++] = &xtrace_plain_lattice;
    supported_lattice[count] = 0;
    return supported_lattice;
}
