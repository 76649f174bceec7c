/* The one place that looks at the processor. */
#include "kernels.h"

static const struct kernels *supported[3];
static const struct code_kernel *supported_codes[3];

const struct kernels *const *xtrace_supported_kernels(void) {
    size_t count = 0;
#ifdef XTRACE_HAVE_IFMA
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512ifma") &&
        __builtin_cpu_supports("avx512vbmi"))
        supported[count++] = &xtrace_ifma;
#endif
#ifdef XTRACE_HAVE_AVX2
    if (__builtin_cpu_supports("avx2")) supported[count++] = &xtrace_avx2;
#endif
    supported[count] = 0;
    return supported;
}

const struct code_kernel *const *xtrace_supported_code_kernels(void) {
    size_t count = 0;
#ifdef XTRACE_HAVE_AVX2
    if (__builtin_cpu_supports("avx2")) supported_codes[count++] = &xtrace_avx2_codes;
#endif
    supported_codes[count++] = &xtrace_plain_codes;
    supported_codes[count] = 0;
    return supported_codes;
}
