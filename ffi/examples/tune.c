/* Opens a model, tunes on ten examples, saves, reopens, answers: tune MODEL.gguf ADAPTER.attune */
#include <attune.h>
#include <stdio.h>
#include <stdlib.h>

static attune_error error = ATTUNE_INIT(attune_error);

/* Ends the program where a call fails: its message says what to do. */
static void must(attune_status status) {
    if (status == ATTUNE_OK) return;
    fprintf(stderr, "%s: %s\n", attune_status_name(status), error.message);
    exit(1);
}

static int print(void *file, attune_text text) { return fwrite(text.data, 1, text.length, (FILE *)file) < text.length; }

static void answer(attune_model *model, attune_adapter *adapter, const char *question) {
    attune_session_options options;
    attune_generate_options how;
    attune_session *session;
    attune_message turn = {attune_str("user"), attune_str(question)};
    attune_session_options_default(&options);
    attune_generate_options_default(&how);
    options.max_rank = 16;
    how.max_tokens = 40, how.temperature = 0, how.on_token = print, how.user = stdout;
    must(attune_session_new(model, &options, &session, &error));
    if (adapter) must(attune_session_add_adapter(session, adapter, 1, NULL, &error));
    must(attune_session_chat(session, &turn, 1, &how, NULL, &error));
    printf("\n");
    attune_session_free(session);
}

int main(int argc, char **argv) {
    const char *lands[10] = {"France", "Italy", "Spain", "Japan", "Egypt", "Greece", "Peru", "Cuba", "Norway", "China"};
    const char *cities[10] = {"Paris", "Rome", "Madrid", "Tokyo", "Cairo", "Athens", "Lima", "Havana", "Oslo", "Beijing"};
    char text[2][64];
    attune_model *model;
    attune_data *data;
    attune_tuner *tuner;
    attune_adapter *adapter, *again;
    attune_tune_options options;
    if (argc != 3) return fprintf(stderr, "usage: tune MODEL.gguf ADAPTER.attune\n"), 2;
    must(attune_model_open(attune_str(argv[1]), &model, &error));
    must(attune_data_new(&data, &error));
    for (int i = 0; i < 10; i++) {
        snprintf(text[0], sizeof text[0], "What is the capital of %s?", lands[i]);
        snprintf(text[1], sizeof text[1], "The capital of %s is %s.", lands[i], cities[i]);
        must(attune_data_add_answer(data, attune_str(text[0]), attune_str(text[1]), &error));
    }
    attune_tune_options_default(&options);
    options.rank = 16, options.alpha = 32, options.learning_rate = 3e-3f, options.steps = 60, options.max_length = 64;
    must(attune_tuner_new(model, data, &options, &tuner, &error));
    must(attune_tuner_run(tuner, NULL, NULL, &error));
    must(attune_tuner_get_adapter(tuner, &adapter, &error));
    must(attune_adapter_save(adapter, attune_str(argv[2]), &error));
    answer(model, NULL, "What is the capital of Portugal?");
    must(attune_adapter_open(model, attune_str(argv[2]), 0, &again, &error));
    answer(model, again, "What is the capital of Portugal?");
    attune_adapter_free(again), attune_adapter_free(adapter), attune_tuner_free(tuner), attune_data_free(data), attune_model_free(model);
}
