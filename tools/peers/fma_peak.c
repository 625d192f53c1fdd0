// The machine's f32 peak: fused multiply-adds on registers alone, THREADS threads, in GFLOP/s.
//
//   cc -O3 -march=native -pthread fma_peak.c -o fma_peak && ./fma_peak THREADS
//
// CHAINS independent accumulators hide the FMA's latency (4 cycles, 2 a cycle at most: 8 are enough) and fit in AVX2's
// 16 registers. Prints the best of ROUNDS rounds.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
enum { CHAINS = 12, ITERATIONS = 100000000, ROUNDS = 5 };
#if defined(__aarch64__)
#define REGISTER "+w"
#else
#define REGISTER "+x"
#endif
typedef float vec __attribute__((vector_size(4 * LANES)));

static void *spin(void *sum) {
    vec acc[CHAINS], x, y;
    for (int i = 0; i < LANES; i++) x[i] = 0.999f, y[i] = 1e-3f;
    for (int c = 0; c < CHAINS; c++) acc[c] = x + (float)c;
    for (int n = 0; n < ITERATIONS; n++) {
        for (int c = 0; c < CHAINS; c++) acc[c] = acc[c] * x + y;
        __asm__ volatile("" : REGISTER(x));  // x may have changed: the loop cannot be folded
    }
    for (int c = 1; c < CHAINS; c++) acc[0] += acc[c];
    *(float *)sum = acc[0][0];
    return NULL;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    if (threads < 1 || threads > 1024) return fprintf(stderr, "usage: fma_peak THREADS\n"), 2;
    pthread_t *ids = malloc(threads * sizeof *ids);
    float *sums = malloc(threads * sizeof *sums);
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double start = now();
        for (int t = 0; t < threads; t++) pthread_create(&ids[t], NULL, spin, &sums[t]);
        for (int t = 0; t < threads; t++) pthread_join(ids[t], NULL);
        double rate = 2.0 * CHAINS * LANES * ITERATIONS * threads / (now() - start) / 1e9;
        if (rate > best) best = rate;
    }
    printf("%.1f\n", best);
    return sums[0] != sums[0];  // the sums are used, so the work is done
}
