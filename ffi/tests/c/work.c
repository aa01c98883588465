/* The whole way: open, plan, tune, pause, checkpoint, resume, save, roll back, answer, measure: work MODEL.gguf FOLDER */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <fcntl.h>
#include <math.h>
#include <unistd.h>

static attune_model *model;
static char folder[512];

static const char *in_folder(const char *name) {
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

struct heard {
    char text[4096];
    size_t length;
};

static int hear(void *user, attune_text text) {
    struct heard *heard = user;
    CHECK(heard->length + text.length < sizeof heard->text);
    memcpy(heard->text + heard->length, text.data, text.length);
    heard->length += text.length;
    return 0;
}

/* The same bytes from a path, a descriptor, a part of a file, a function, and from memory. */
static int read_at(void *user, uint64_t offset, void *buffer, size_t size) {
    return pread(*(int *)user, buffer, size, (off_t)offset) != (ssize_t)size;
}

static void released(void *user) {
    *(int *)user += 1;
}

static void sources(const char *path) {
    attune_model_info info = ATTUNE_INIT(attune_model_info), other = ATTUNE_INIT(attune_model_info);
    OK(attune_model_get_info(model, &info, &error));
    CHECK(info.layers == 4 && info.width == 128 && info.has_tokenizer == 1 && info.file_bytes > 1000000);
    size_t size = (size_t)info.file_bytes;
    char *bytes = malloc(size + 256), *aligned = bytes + (64 - (uintptr_t)bytes % 64) % 64;
    int file = open(path, O_RDONLY), odd;
    CHECK(bytes && file >= 0 && pread(file, aligned, size, 0) == (ssize_t)size);
    odd = open(in_folder("odd"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(odd >= 0 && write(odd, "1234567", 7) == 7 && write(odd, aligned, size) == (ssize_t)size && write(odd, "behind", 6) == 6);
    attune_model *opened[5];
    OK(attune_model_open_descriptor(file, 0, 0, attune_str("file"), &opened[0], &error));
    OK(attune_model_open_descriptor(odd, 7, size, attune_str("part"), &opened[1], &error));
    REFUSED(ATTUNE_ERROR_IO, attune_model_open_descriptor(odd, 7, size + 100, attune_str("beyond"), &opened[2], &error));
    attune_reader reader = ATTUNE_INIT(attune_reader);
    reader.length = size, reader.read_at = read_at, reader.user = &file;
    OK(attune_model_open_reader(&reader, attune_str("reader"), &opened[2], &error));
    reader.length = size + 5;
    REFUSED(ATTUNE_ERROR_IO, attune_model_open_reader(&reader, attune_str("reader"), &opened[3], &error));
    int at_64 = 0, elsewhere = 0;
    OK(attune_model_open_memory(aligned, size, released, &at_64, attune_str("memory"), &opened[3], &error));
    char *copy = malloc(size + 1);
    memcpy(copy + 1, aligned, size);
    OK(attune_model_open_memory(copy + 1, size, released, &elsewhere, attune_str("memory"), &opened[4], &error));
    CHECK(at_64 == 0 && elsewhere == 1);
    free(copy);
    CHECK(close(file) == 0 && close(odd) == 0);
    attune_generate_options how = greedy(6);
    char answers[6][256];
    for (int i = 0; i < 6; i++) {
        attune_model *which = i < 5 ? opened[i] : model;
        size_t length;
        OK(attune_model_get_info(which, &other, &error));
        CHECK(memcmp(&info, &other, sizeof info) == 0);
        attune_session *session = small_session(which, 0);
        OK(attune_model_free(i < 5 ? which : NULL));
        CHECK(at_64 == (i > 3));
        OK(attune_session_complete(session, attune_str("The capital of France is"), &how, NULL, &error));
        OK(attune_session_text(session, answers[i], sizeof answers[i], &length, &error));
        CHECK(length > 0 && strcmp(answers[i], answers[0]) == 0);
        OK(attune_session_free(session));
        CHECK(at_64 == (i >= 3));
    }
    free(bytes);
}

/* Text comes out as far as there is room. */
static void describing(const char *path) {
    size_t length, all;
    char small[20] = "unchanged";
    OK(attune_model_describe(model, NULL, 0, &length, &error));
    char *text = malloc(length + 1);
    OK(attune_model_describe(model, text, length + 1, &all, &error));
    CHECK(all == length && strlen(text) == length && strstr(text, "\"architecture\":\"llama\""));
    OK(attune_model_describe(model, small, sizeof small, NULL, &error));
    CHECK(strlen(small) == sizeof small - 1 && strncmp(small, text, sizeof small - 1) == 0);
    OK(attune_inspect(attune_str(path), text, length + 1, &all, &error));
    free(text);
    uint32_t ids[4] = {0, 0, 77, 77};
    OK(attune_model_tokenize(model, attune_str("The capital of France is"), 0, ids, 2, &all, &error));
    CHECK(all > 2 && ids[2] == 77);
    attune_plan *plan;
    attune_plan_totals totals = ATTUNE_INIT(attune_plan_totals);
    attune_plan_buffer buffer = ATTUNE_INIT(attune_plan_buffer);
    attune_tune_options options = small_tuning();
    uint64_t sum = 0;
    OK(attune_plan_tuning(model, &options, &plan, &error));
    OK(attune_plan_get_totals(plan, &totals, &error));
    CHECK(totals.total_bytes == totals.adapter_bytes + totals.cache_bytes + totals.work_bytes + totals.host_bytes && totals.buffers > 20);
    for (uint32_t i = 0; i < totals.buffers; i++) {
        OK(attune_plan_get_buffer(plan, i, &buffer, &error));
        CHECK(buffer.name[0] && buffer.region[0] && buffer.dimensions > 0);
        sum += buffer.bytes;
    }
    CHECK(sum <= totals.total_bytes && sum > totals.total_bytes * 9 / 10);
    REFUSED(ATTUNE_ERROR_OPTION, attune_plan_get_buffer(plan, totals.buffers, &buffer, &error));
    OK(attune_plan_free(plan));
    OK(attune_plan_session(model, NULL, &plan, &error));
    OK(attune_plan_free(plan));
}

static int count_steps(void *user, const attune_progress *progress) {
    CHECK(progress->size == sizeof *progress && progress->step > 0 && progress->loss > 0);
    return ++*(int *)user >= 2;
}

/* Bytes of an adapter that was tuned on ten examples: in one go, or in small parts with a checkpoint in between. */
static size_t tuned(int in_parts, char *bytes, size_t size) {
    attune_tune_options options = small_tuning();
    attune_data *data = ten_examples(), *held_out;
    attune_tuner *tuner;
    attune_adapter *adapter;
    attune_run run = ATTUNE_INIT(attune_run);
    attune_progress progress = ATTUNE_INIT(attune_progress);
    OK(attune_data_new(&held_out, &error));
    OK(attune_data_add_answer(held_out, attune_str("What does a goose say?"), attune_str("honk"), &error));
    options.steps = 8;
    options.eval_every = 4;
    options.held_out = held_out;
    OK(attune_tuner_new(model, data, &options, &tuner, &error));
    if (in_parts) {
        attune_run_options how;
        attune_run_options_default(&how);
        int steps = 0;
        how.on_step = count_steps;
        how.user = &steps;
        OK(attune_tuner_run(tuner, &how, &run, &error));
        CHECK(run.reason == ATTUNE_RUN_PAUSED && run.steps == 2 && steps == 2);
        attune_run_options_default(&how);
        how.max_steps = 3;
        OK(attune_tuner_run(tuner, &how, &run, &error));
        CHECK(run.reason == ATTUNE_RUN_STEPS && run.steps == 3);
        OK(attune_tuner_get_progress(tuner, &progress, &error));
        CHECK(progress.step == 5 && progress.total_steps == 8 && !progress.done && progress.eval_loss > 0);
        OK(attune_tuner_checkpoint(tuner, attune_str(in_folder("checkpoint")), &error));
        OK(attune_tuner_run(tuner, NULL, &run, &error));
        OK(attune_tuner_free(tuner));
        OK(attune_tuner_new(model, data, &options, &tuner, &error));
        REFUSED(ATTUNE_ERROR_CHECKPOINT, attune_tuner_resume(tuner, attune_str(in_folder("none")), &error));
        OK(attune_tuner_resume(tuner, attune_str(in_folder("checkpoint")), &error));
        int runs = 0;
        how.max_steps = 0;
        how.milliseconds = 1;
        do {
            OK(attune_tuner_run(tuner, &how, &run, &error));
            runs++;
        } while (run.reason == ATTUNE_RUN_TIME && runs < 10000);
        CHECK(run.reason == ATTUNE_RUN_DONE && runs > 1);
        attune_cancel *cancel;
        OK(attune_cancel_new(&cancel, &error));
        OK(attune_cancel_ask(cancel, &error));
        how.cancel = cancel;
        OK(attune_tuner_run(tuner, &how, &run, &error));
        CHECK(run.reason == ATTUNE_RUN_DONE && run.steps == 0);
        OK(attune_cancel_free(cancel));
    } else {
        OK(attune_tuner_run(tuner, NULL, &run, &error));
        CHECK(run.reason == ATTUNE_RUN_DONE && run.steps == 8);
    }
    OK(attune_tuner_get_progress(tuner, &progress, &error));
    CHECK(progress.done && progress.step == 8 && progress.loss < 5 && progress.preference_margin != progress.preference_margin);
    OK(attune_tuner_get_adapter(tuner, &adapter, &error));
    OK(attune_adapter_save(adapter, attune_str(in_folder("adapter.attune")), &error));
    OK(attune_adapter_free(adapter));
    OK(attune_tuner_free(tuner));
    OK(attune_data_free(data));
    OK(attune_data_free(held_out));
    FILE *file = fopen(in_folder("adapter.attune"), "rb");
    CHECK(file);
    size = fread(bytes, 1, size, file);
    fclose(file);
    return size;
}

static void adapters(void) {
    attune_adapter *adapter, *other;
    attune_adapter_info info = ATTUNE_INIT(attune_adapter_info);
    uint64_t version = 99, versions[4], restored;
    size_t count;
    uint32_t index;
    OK(attune_adapter_open(model, attune_str(in_folder("adapter.attune")), 0, &adapter, &error));
    OK(attune_adapter_get_info(adapter, &info, &error));
    CHECK(info.rank == 4 && info.alpha == 8 && info.target_modules == ATTUNE_MODULE_ALL && info.layers == 4 && info.parameters > 1000);
    OK(attune_adapter_commit(adapter, attune_str(in_folder("kept")), &version, &error));
    CHECK(version == 0);
    OK(attune_adapter_commit(adapter, attune_str(in_folder("kept")), &version, &error));
    OK(attune_adapter_versions(attune_str(in_folder("kept")), versions, 4, &count, &error));
    CHECK(version == 1 && count == 1 && versions[0] == 1);
    OK(attune_adapter_rollback(attune_str(in_folder("kept")), 0, &restored, &error));
    CHECK(restored == 1);
    OK(attune_adapter_open(model, attune_str(in_folder("kept")), 0, &other, &error));
    OK(attune_adapter_free(other));
    OK(attune_adapter_export(adapter, model, ATTUNE_FORMAT_PEFT, attune_str(in_folder("peft")), &error));
    OK(attune_adapter_export(adapter, model, ATTUNE_FORMAT_GGUF, attune_str(in_folder("lora.gguf")), &error));
    OK(attune_adapter_open(model, attune_str(in_folder("peft")), 0, &other, &error));
    OK(attune_adapter_free(other));
    OK(attune_adapter_open(model, attune_str(in_folder("lora.gguf")), 0, &other, &error));
    attune_session *session = small_session(model, 4);
    OK(attune_session_add_adapter(session, other, 1, &index, &error));
    CHECK(index == 0);
    attune_generate_options how = greedy(12);
    attune_generation made = ATTUNE_INIT(attune_generation);
    attune_message turn = say("user", "What does a cow say?");
    struct heard heard = {{0}, 0};
    char with[256], without[256];
    how.on_token = hear;
    how.user = &heard;
    OK(attune_session_chat(session, &turn, 1, &how, &made, &error));
    OK(attune_session_text(session, with, sizeof with, NULL, &error));
    CHECK(made.answer_tokens > 0 && made.text_length == strlen(with) && heard.length == strlen(with) && memcmp(heard.text, with, heard.length) == 0);
    OK(attune_session_scale_adapter(session, index, 0, &error));
    REFUSED(ATTUNE_ERROR_ADAPTER, attune_session_scale_adapter(session, 5, 0, &error));
    OK(attune_session_reset(session, &error));
    how.on_token = NULL;
    OK(attune_session_chat(session, &turn, 1, &how, &made, &error));
    OK(attune_session_text(session, without, sizeof without, NULL, &error));
    CHECK(strcmp(with, without) != 0);
    attune_text stop = {without + 2, 2};
    how.stop = &stop;
    how.stop_count = 1;
    OK(attune_session_chat(session, &turn, 1, &how, &made, &error));
    CHECK(made.finish_reason == ATTUNE_FINISH_STOP && made.text_length <= 2);
    attune_session *narrow = small_session(model, 0);
    REFUSED(ATTUNE_ERROR_ADAPTER, attune_session_add_adapter(narrow, adapter, 1, NULL, &error));
    OK(attune_session_free(narrow));
    OK(attune_session_free(session));
    OK(attune_adapter_free(other));
    attune_data *data = ten_examples();
    attune_evaluate_options options;
    attune_evaluation before = ATTUNE_INIT(attune_evaluation), after = ATTUNE_INIT(attune_evaluation);
    attune_evaluate_options_default(&options);
    options.max_length = 32;
    OK(attune_evaluate(model, data, &options, &before, &error));
    options.adapter = adapter;
    OK(attune_evaluate(model, data, &options, &after, &error));
    CHECK(before.examples == 10 && after.loss < before.loss && after.target_tokens == before.target_tokens);
    OK(attune_cancel_new((attune_cancel **)&options.cancel, &error));
    OK(attune_cancel_ask(options.cancel, &error));
    REFUSED(ATTUNE_ERROR_CANCELLED, attune_evaluate(model, data, &options, &after, &error));
    OK(attune_cancel_free((attune_cancel *)options.cancel));
    OK(attune_data_free(data));
    OK(attune_adapter_free(adapter));
}

/* In memory of the caller's: as much as is said, and no byte beyond. */
static void given_memory(void) {
    attune_session_options options;
    attune_session *session, *other = small_session(model, 4);
    attune_adapter *adapter;
    attune_adapter_info info = ATTUNE_INIT(attune_adapter_info);
    attune_generate_options how = greedy(8);
    uint64_t size;
    char texts[2][256];
    OK(attune_adapter_open(model, attune_str(in_folder("adapter.attune")), 0, &adapter, &error));
    OK(attune_adapter_get_info(adapter, &info, &error));
    attune_session_options_default(&options);
    options.context = 128;
    options.prefill_batch = 32;
    options.threads = 1;
    options.max_rank = 4;
    options.adapter_bytes = info.parameters * 4;
    OK(attune_session_size(model, &options, &size, &error));
    unsigned char *all = malloc((size_t)size + 192), *memory = all + 64 - (uintptr_t)all % 64;
    memset(all, 0x5a, (size_t)size + 192);
    REFUSED(ATTUNE_ERROR_TOO_SMALL, attune_session_new_in(model, &options, memory, (size_t)size - 1, &session, &error));
    CHECK(error.needed_bytes == size);
    REFUSED(ATTUNE_ERROR_ALIGNMENT, attune_session_new_in(model, &options, memory + 8, (size_t)size, &session, &error));
    REFUSED(ATTUNE_ERROR_NULL, attune_session_new_in(model, &options, NULL, (size_t)size, &session, &error));
    OK(attune_session_new_in(model, &options, memory, (size_t)size, &session, &error));
    OK(attune_session_add_adapter(session, adapter, 1, NULL, &error));
    OK(attune_session_add_adapter(other, adapter, 1, NULL, &error));
    REFUSED(ATTUNE_ERROR_TOO_SMALL, attune_session_add_adapter(session, adapter, 1, NULL, &error));
    OK(attune_session_complete(session, attune_str("The capital of France is"), &how, NULL, &error));
    OK(attune_session_text(session, texts[0], sizeof texts[0], NULL, &error));
    OK(attune_session_complete(other, attune_str("The capital of France is"), &how, NULL, &error));
    OK(attune_session_text(other, texts[1], sizeof texts[1], NULL, &error));
    CHECK(texts[0][0] && strcmp(texts[0], texts[1]) == 0);
    OK(attune_session_free(session));
    OK(attune_session_free(other));
    CHECK(memory[-1] == 0x5a && memory[size] == 0x5a);
    free(all);
    attune_tuner *tuner;
    attune_data *data = ten_examples();
    attune_tune_options tune = small_tuning();
    tune.steps = 2;
    REFUSED(ATTUNE_ERROR_TOO_SMALL, attune_tuner_new_in(model, data, &tune, NULL, 0, &tuner, &error));
    size = error.needed_bytes;
    CHECK(size > 100000);
    all = malloc((size_t)size + 192), memory = all + 64 - (uintptr_t)all % 64;
    memset(all, 0x5a, (size_t)size + 192);
    attune_progress one = ATTUNE_INIT(attune_progress), two = ATTUNE_INIT(attune_progress);
    OK(attune_tuner_new_in(model, data, &tune, memory, (size_t)size, &tuner, &error));
    OK(attune_tuner_run(tuner, NULL, NULL, &error));
    OK(attune_tuner_get_progress(tuner, &one, &error));
    OK(attune_tuner_free(tuner));
    CHECK(memory[-1] == 0x5a && memory[size] == 0x5a);
    free(all);
    OK(attune_tuner_new(model, data, &tune, &tuner, &error));
    OK(attune_tuner_run(tuner, NULL, NULL, &error));
    OK(attune_tuner_get_progress(tuner, &two, &error));
    CHECK(one.step == 2 && one.loss == two.loss && one.grad_norm == two.grad_norm);
    OK(attune_tuner_free(tuner));
    OK(attune_data_free(data));
    OK(attune_adapter_free(adapter));
}

/* Pairs, ratings and rankings. */
static void preferences(void) {
    static const char *const methods[] = {"dpo", "kto", "plackett_luce"};
    attune_message prompt = say("user", "What does a cow say?");
    attune_text answers[3] = {attune_str("moo"), attune_str("woof"), attune_str("meow")};
    for (int kind = 0; kind < 3; kind++) {
        attune_tune_options options = small_tuning();
        attune_data *data;
        attune_tuner *tuner;
        attune_progress progress = ATTUNE_INIT(attune_progress);
        size_t count;
        char text[256];
        OK(attune_data_new(&data, &error));
        for (int i = 0; i < 4; i++) {
            if (kind == 0) OK(attune_data_add_pair(data, &prompt, 1, answers[0], answers[1 + i % 2], &error));
            if (kind == 1) OK(attune_data_add_rating(data, &prompt, 1, answers[i % 3], i % 3 == 0, &error));
            if (kind == 2) OK(attune_data_add_ranking(data, &prompt, 1, answers, 3, &error));
        }
        OK(attune_data_count(data, &count, &error));
        options.method = attune_str(methods[kind]);
        options.steps = 3;
        options.beta = 0.2;
        OK(attune_tuner_new(model, data, &options, &tuner, &error));
        OK(attune_tuner_run(tuner, NULL, NULL, &error));
        OK(attune_tuner_get_progress(tuner, &progress, &error));
        CHECK(count == 4 && progress.done && progress.loss > 0);
        CHECK(kind > 0 || progress.preference_margin > 0);
        OK(attune_tuner_describe(tuner, text, sizeof text, NULL, &error));
        CHECK(strstr(text, "\"skipped\":[]"));
        OK(attune_tuner_free(tuner));
        OK(attune_data_free(data));
    }
}

/* The log hears of what is left out. */
static void listen(void *user, uint32_t level, attune_text message) {
    if (level == ATTUNE_LOG_WARN && message.length > 10) *(int *)user += 1;
}

static void logging(void) {
    int warnings = 0;
    attune_data *data;
    attune_tuner *tuner;
    attune_tune_options options = small_tuning();
    REFUSED(ATTUNE_ERROR_OPTION, attune_log_set(9, listen, NULL, &error));
    OK(attune_log_set(ATTUNE_LOG_WARN, listen, &warnings, &error));
    OK(attune_data_new(&data, &error));
    OK(attune_data_add_lines(data, attune_str("{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\", \"completion\": 5}\n"), &error));
    OK(attune_tuner_new(model, data, &options, &tuner, &error));
    CHECK(warnings == 1);
    OK(attune_tuner_free(tuner));
    OK(attune_log_set(ATTUNE_LOG_OFF, NULL, NULL, &error));
    OK(attune_tuner_new(model, data, &options, &tuner, &error));
    CHECK(warnings == 1);
    OK(attune_tuner_free(tuner));
    OK(attune_data_free(data));
}

int main(int argc, char **argv) {
    static char whole[1 << 20], parts[1 << 20];
    CHECK(argc == 3);
    snprintf(folder, sizeof folder, "%s", argv[2]);
    OK(attune_model_open(attune_str(argv[1]), &model, &error));
    sources(argv[1]);
    describing(argv[1]);
    size_t length = tuned(0, whole, sizeof whole);
    CHECK(length > 10000 && tuned(1, parts, sizeof parts) == length && memcmp(whole, parts, length) == 0);
    adapters();
    given_memory();
    preferences();
    logging();
    OK(attune_model_free(model));
    puts("work: all done");
    return 0;
}
