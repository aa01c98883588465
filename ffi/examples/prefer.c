/* Keeps what a person made of answers, and tunes on it for at most two seconds: prefer MODEL.gguf STORE ADAPTER.attune */
#include <attune.h>
#include <stdio.h>
#include <stdlib.h>

static attune_error error = ATTUNE_INIT(attune_error);

static void must(attune_status status) {
    if (status != ATTUNE_OK) {
        fprintf(stderr, "%s: %s\n", attune_status_name(status), error.message);
        exit(1);
    }
}

/* An app stores these when they happen: a prompt, the answer, and the edit that a person made of it. */
static void remember(attune_feedback *store, const char *question, const char *answer, const char *edit) {
    attune_message prompt = {attune_str("user"), attune_str(question)};
    uint64_t asked, answered;
    must(attune_feedback_add_prompt(store, &prompt, 1, attune_str("conversation-1"), &asked, &error));
    must(attune_feedback_add_answer(store, asked, attune_str(answer), &answered, &error));
    must(attune_feedback_add_edit(store, answered, attune_str(edit), NULL, &error));
}

static int show(void *unused, const attune_progress *progress) {
    (void)unused;
    printf("update %llu of %llu: loss %.3f, margin %.3f\n", (unsigned long long)progress->step, (unsigned long long)progress->total_steps,
           progress->loss, progress->preference_margin);
    return 0; /* Another number pauses. */
}

int main(int argc, char **argv) {
    attune_model *model;
    attune_feedback *store;
    attune_data *pairs;
    attune_tuner *tuner;
    attune_adapter *adapter;
    attune_tune_options options;
    attune_run_options how;
    attune_run run = ATTUNE_INIT(attune_run);

    if (argc != 4) {
        fprintf(stderr, "usage: prefer MODEL.gguf STORE ADAPTER.attune\n");
        return 2;
    }
    must(attune_model_open(attune_str(argv[1]), &model, &error));
    must(attune_feedback_open(attune_str(argv[2]), NULL, &store, &error));
    remember(store, "What does a cow say?", "It is said that a cow might perhaps say moo.", "moo");
    remember(store, "What does a dog say?", "It is said that a dog might perhaps say woof.", "woof");
    remember(store, "What does a cat say?", "It is said that a cat might perhaps say meow.", "meow");
    must(attune_feedback_get_data(store, ATTUNE_LEARN_PAIRS, &pairs, &error));

    attune_tune_options_default(&options);
    options.method = attune_str("dpo");
    options.learning_rate = 1e-3f;
    options.max_length = 64;
    options.steps = 10;
    must(attune_tuner_new(model, pairs, &options, &tuner, &error));
    attune_run_options_default(&how);
    how.milliseconds = 2000;
    how.on_step = show;
    must(attune_tuner_run(tuner, &how, &run, &error));
    printf("%s\n", run.reason == ATTUNE_RUN_DONE ? "done" : "to be continued");
    must(attune_tuner_get_adapter(tuner, &adapter, &error));
    must(attune_adapter_save(adapter, attune_str(argv[3]), &error));

    attune_adapter_free(adapter);
    attune_tuner_free(tuner);
    attune_data_free(pairs);
    attune_feedback_free(store);
    attune_model_free(model);
    return 0;
}
