/* A batch over threads: they take blocks of rows one after another, so that one that is held up delays nobody.
 *
 * The threads live as long as the call. That costs some 20 microseconds each, which the caller weighs against the work; in
 * return nothing is left over that a fork or the end of the process would have to care for.
 */
#include "kernels.h"

#include <pthread.h>
#include <stdatomic.h>

enum { MAX_THREADS = 64, STACK_BYTES = 1 << 21 };

struct job {
    xtrace_work work;
    const void *arguments;
    size_t rows, block;
    atomic_size_t next;
};

static void *take_blocks(void *argument) {
    struct job *job = argument;
    for (;;) {
        const size_t first = atomic_fetch_add(&job->next, job->block);
        if (first >= job->rows) return NULL;
        const size_t left = job->rows - first;
        job->work(job->arguments, first, left < job->block ? left : job->block);
    }
}

void xtrace_in_threads(xtrace_work work, const void *arguments, size_t rows, size_t block, size_t threads) {
    struct job job = {work, arguments, rows, block, 0};
    pthread_t others[MAX_THREADS];
    pthread_attr_t attributes;
    size_t started = 0;
    const size_t useful = (rows + block - 1) / block;
    if (threads > useful) threads = useful;
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    if (threads > 1 && pthread_attr_init(&attributes) == 0) {
        pthread_attr_setstacksize(&attributes, STACK_BYTES);
        /* A thread that cannot be had is no error: the others, at least this one, take its blocks. */
        while (started + 1 < threads && pthread_create(&others[started], &attributes, take_blocks, &job) == 0) started++;
        pthread_attr_destroy(&attributes);
    }
    take_blocks(&job);
    for (size_t i = 0; i < started; i++) pthread_join(others[i], NULL);
}
