/* A batch over threads: they take blocks of rows one after another, so that one that is held up delays nobody.
 *
 * The threads live as long as the call. That costs some 20 microseconds each, which the caller weighs against the work; in
 * return nothing is left over that a fork or the end of the process would have to care for.
 */
#include "kernels.h"

#include <stdatomic.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <pthread.h>
#endif

enum { MAX_THREADS = 64, STACK_BYTES = 1 << 21 };

struct job {
    xtrace_work work;
    const void *arguments;
    size_t rows, block;
    atomic_size_t next;
};

static void take_blocks(struct job *job) {
    for (;;) {
        const size_t first = atomic_fetch_add(&job->next, job->block);
        if (first >= job->rows) return;
        const size_t left = job->rows - first;
        job->work(job->arguments, first, left < job->block ? left : job->block);
    }
}

#ifdef _WIN32
typedef HANDLE thread;

static DWORD WINAPI run(void *job) {
    take_blocks(job);
    return 0;
}

static int start(thread *one, struct job *job) {
    *one = CreateThread(NULL, STACK_BYTES, run, job, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    return *one != NULL;
}

static void wait_for(thread one) {
    WaitForSingleObject(one, INFINITE);
    CloseHandle(one);
}
#else
typedef pthread_t thread;

static void *run(void *job) {
    take_blocks(job);
    return NULL;
}

static int start(thread *one, struct job *job) {
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return 0;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    const int started = pthread_create(one, &attributes, run, job) == 0;
    pthread_attr_destroy(&attributes);
    return started;
}

static void wait_for(thread one) { pthread_join(one, NULL); }
#endif

void xtrace_in_threads(xtrace_work work, const void *arguments, size_t rows, size_t block, size_t threads) {
    struct job job = {work, arguments, rows, block, 0};
    thread others[MAX_THREADS];
    size_t started = 0;
    const size_t useful = (rows + block - 1) / block;
    if (threads > useful) threads = useful;
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    /* A thread that cannot be had is no error: the others, at least this one, take its blocks. */
    while (started + 1 < threads && start(&others[started], &job)) started++;
    take_blocks(&job);
    for (size_t i = 0; i < started; i++) wait_for(others[i]);
}
