/* Opens, tunes a step, answers, and closes again and again: what is resident does not grow: cycles MODEL.gguf COUNT */
#define _DEFAULT_SOURCE
#include "check.h"
#include <time.h>
#include <unistd.h>

static long resident_kib(void) {
    long pages = 0, all;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file) return 0;
    if (fscanf(file, "%ld %ld", &all, &pages) != 2) pages = 0;
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void cycle(const char *path) {
    attune_model *model;
    attune_data *data;
    attune_tuner *tuner;
    attune_adapter *adapter;
    attune_run_options how;
    attune_tune_options options = small_tuning();
    attune_generate_options short_answer = greedy(2);
    attune_message turn = say("user", "What does a cow say?");
    OK(attune_model_open(attune_str(path), &model, &error));
    OK(attune_data_new(&data, &error));
    OK(attune_data_add_answer(data, attune_str("What does a cow say?"), attune_str("moo"), &error));
    options.rank = 1;
    options.gradient_accumulation = 1;
    OK(attune_tuner_new(model, data, &options, &tuner, &error));
    attune_run_options_default(&how);
    how.max_steps = 1;
    OK(attune_tuner_run(tuner, &how, NULL, &error));
    OK(attune_tuner_get_adapter(tuner, &adapter, &error));
    attune_session *session = small_session(model, 1);
    OK(attune_session_add_adapter(session, adapter, 1, NULL, &error));
    OK(attune_session_chat(session, &turn, 1, &short_answer, NULL, &error));
    CHECK(attune_session_reset((attune_session *)model, NULL) == ATTUNE_ERROR_HANDLE);
    OK(attune_session_free(session));
    OK(attune_adapter_free(adapter));
    OK(attune_tuner_free(tuner));
    OK(attune_data_free(data));
    OK(attune_model_free(model));
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    int count = atoi(argv[2]), warm = count / 10 < 20 ? count / 10 : 20;
    /* How long opening takes, once the file is in the system's cache. */
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        struct timespec a, b;
        attune_model *model;
        clock_gettime(CLOCK_MONOTONIC, &a);
        OK(attune_model_open(attune_str(argv[1]), &model, &error));
        clock_gettime(CLOCK_MONOTONIC, &b);
        OK(attune_model_free(model));
        double ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
        best = ms < best ? ms : best;
    }
    for (int i = 0; i < warm; i++) cycle(argv[1]);
    long before = resident_kib();
    for (int i = warm; i < count; i++) cycle(argv[1]);
    long after = resident_kib();
    printf("cycles: %d, resident %ld KiB after %d and %ld KiB at the end; opening takes %.2f ms\n", count, before, warm, after, best);
    /* A leak of one small tuner a cycle would be hundreds of KiB each. */
    CHECK(count < 100 || after - before < 2048);
    CHECK(count < 100 || best < 5);
    return 0;
}
