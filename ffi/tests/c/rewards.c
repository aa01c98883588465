/* A reward model is tuned on pairs and scores answers; a policy learns from a reward of the app's: rewards MODEL.gguf FOLDER */
#include "check.h"

/* Counts how often it is asked, and likes short answers. */
static int brevity(void *user, attune_text prompt, const attune_text *answers, size_t count, double *scores) {
    CHECK(prompt.length > 0 && count == 4);
    for (size_t i = 0; i < count; i++) scores[i] = -(double)answers[i].length;
    return ++*(int *)user > 1000;
}

static int never(void *user, attune_text prompt, const attune_text *answers, size_t count, double *scores) {
    (void)user, (void)prompt, (void)answers, (void)count, (void)scores;
    return 7;
}

static int ask(void *user, const attune_progress *progress) {
    CHECK(progress->reward == progress->reward);
    OK(attune_cancel_ask(user, &error));
    return 0;
}

int main(int argc, char **argv) {
    attune_model *model;
    attune_data *pairs, *prompts;
    attune_tuner *tuner;
    attune_adapter *adapter;
    attune_reward *reward;
    attune_message prompt = say("user", "What is the capital of France?");
    attune_text answers[2] = {attune_str("I would rather not say."), attune_str("The capital of France is Paris.")};
    attune_tune_options options = small_tuning();
    attune_progress progress = ATTUNE_INIT(attune_progress);
    attune_run run = ATTUNE_INIT(attune_run);
    float scores[2] = {0, 0};
    char path[600];
    CHECK(argc == 3);
    OK(attune_model_open(attune_str(argv[1]), &model, &error));
    OK(attune_data_new(&pairs, &error));
    for (int i = 0; i < 4; i++) OK(attune_data_add_pair(pairs, &prompt, 1, answers[1], answers[0], &error));
    options.method = attune_str("reward");
    options.max_length = 48;
    options.steps = 6;
    OK(attune_tuner_new(model, pairs, &options, &tuner, &error));
    OK(attune_tuner_run(tuner, NULL, &run, &error));
    CHECK(run.reason == ATTUNE_RUN_DONE && run.steps == 6);
    OK(attune_tuner_get_adapter(tuner, &adapter, &error));
    snprintf(path, sizeof path, "%s/reward.attune", argv[2]);
    OK(attune_adapter_save(adapter, attune_str(path), &error));
    OK(attune_adapter_free(adapter));
    OK(attune_adapter_open(model, attune_str(path), 0, &adapter, &error));
    OK(attune_reward_new(model, adapter, NULL, &reward, &error));
    OK(attune_reward_score(reward, &prompt, 1, answers, 2, scores, &error));
    CHECK(scores[1] > scores[0]);
    REFUSED(ATTUNE_ERROR_NULL, attune_reward_score(reward, &prompt, 1, answers, 2, NULL, &error));
    OK(attune_adapter_free(adapter));
    OK(attune_reward_free(reward));
    REFUSED(ATTUNE_ERROR_HANDLE, attune_reward_score(reward, &prompt, 1, answers, 2, scores, &error));
    OK(attune_tuner_free(tuner));
    OK(attune_data_free(pairs));

    OK(attune_data_new(&prompts, &error));
    OK(attune_data_add_prompt(prompts, &prompt, 1, &error));
    attune_reinforce_options reinforce;
    int asked = 0;
    options = small_tuning();
    options.method = attune_str("grpo");
    options.steps = 3;
    options.batch_size = 4;
    options.gradient_accumulation = 1;
    REFUSED(ATTUNE_ERROR_NULL, attune_tuner_new(model, prompts, &options, &tuner, &error));
    attune_reinforce_options_default(&reinforce);
    reinforce.num_generations = 4;
    reinforce.max_completion_length = 8;
    reinforce.max_kl = 0;
    options.reinforce = &reinforce;
    REFUSED(ATTUNE_ERROR_OPTION, attune_tuner_new(model, prompts, &options, &tuner, &error));
    reinforce.on_reward = never;
    OK(attune_tuner_new(model, prompts, &options, &tuner, &error));
    error.message[0] = 0;
    CHECK(attune_tuner_run(tuner, NULL, NULL, &error) != ATTUNE_OK && strstr(error.message, "returned 7"));
    OK(attune_tuner_free(tuner));
    reinforce.on_reward = brevity;
    reinforce.user = &asked;
    attune_text length = attune_str("length:max=3");
    reinforce.rewards = &length;
    reinforce.reward_count = 1;
    OK(attune_tuner_new(model, prompts, &options, &tuner, &error));
    attune_cancel *cancel;
    attune_run_options how;
    attune_run_options_default(&how);
    OK(attune_cancel_new(&cancel, &error));
    how.on_step = ask;
    how.user = cancel;
    how.cancel = cancel;
    OK(attune_tuner_run(tuner, &how, &run, &error));
    CHECK(run.reason == ATTUNE_RUN_CANCELLED && run.steps == 1 && asked == 1);
    OK(attune_tuner_run(tuner, NULL, &run, &error));
    OK(attune_tuner_get_progress(tuner, &progress, &error));
    CHECK(run.reason == ATTUNE_RUN_DONE && progress.step == 3 && asked >= 3 && progress.reward < 1);
    OK(attune_cancel_free(cancel));
    OK(attune_tuner_free(tuner));
    OK(attune_data_free(prompts));
    OK(attune_model_free(model));
    puts("rewards: all done");
    return 0;
}
