// Runs one of llama.cpp's kernels some times, for counters of instructions: KIND NAME ROWS TOKENS COLS TIMES. See count.py, which compiles it.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#define DOTS(X) \
    X(q8_0_q8_0, 32, 34, 34) X(q4_0_q8_0, 32, 18, 34) X(q4_1_q8_1, 32, 20, 36) X(q5_0_q8_0, 32, 22, 34) X(q5_1_q8_1, 32, 24, 36) \
    X(q4_K_q8_K, 256, 144, 292) X(q5_K_q8_K, 256, 176, 292) X(q6_K_q8_K, 256, 210, 292)
#define REPACKED(X) \
    X(q4_0_4x4_q8_0) X(q4_0_4x8_q8_0) X(q8_0_4x4_q8_0) X(q8_0_4x8_q8_0) X(q4_K_8x4_q8_K) X(q4_K_8x8_q8_K) \
    X(q5_K_8x4_q8_K) X(q5_K_8x8_q8_K) X(q6_K_8x4_q8_K) X(q6_K_8x8_q8_K)

extern "C" {
#define DECLARE(name, len, w, x) void ggml_vec_dot_##name(int, float *, size_t, const void *, size_t, const void *, size_t, int);
DOTS(DECLARE)
#define DECLARE_REPACKED(name) \
    void ggml_gemv_##name(int, float *, size_t, const void *, const void *, int, int); \
    void ggml_gemm_##name(int, float *, size_t, const void *, const void *, int, int);
REPACKED(DECLARE_REPACKED)
}

static void run(const std::string & kind, const std::string & name, int n, int tokens, int k, const char * w, const char * x, float * y) {
    if (kind == "dot") {
#define DOT(dot, len, w_bytes, x_bytes) \
        if (name == #dot) { \
            const size_t row = k / len * w_bytes, column = k / len * x_bytes; \
            for (int i = 0; i < n; i += tokens) ggml_vec_dot_##dot(k, y, 16, w + i * row, row, x, column, tokens); \
        }
        DOTS(DOT)
        return;
    }
#define PANEL(panel) \
    if (name == #panel) { \
        if (kind == "gemv") ggml_gemv_##panel(k, y, n, w, x, 1, n); else ggml_gemm_##panel(k, y, n, w, x, tokens, n); \
    }
    REPACKED(PANEL)
}

int main(int count, char ** argument) {
    if (count != 7) return 2;
    const size_t size = 1 << 20;
    char * w = (char *) aligned_alloc(64, size), * x = (char *) aligned_alloc(64, size);
    float * y = (float *) aligned_alloc(64, size);
    memset(w, 33, 1 << 16);
    memset(x, 33, 1 << 16);
    for (int i = 0; i < atoi(argument[6]); i++) run(argument[1], argument[2], atoi(argument[3]), atoi(argument[4]), atoi(argument[5]), w, x, y);
    printf("%f\n", y[0]);
    return 0;
}
