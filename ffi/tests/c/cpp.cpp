// The same from C++17: handles free themselves, errors are exceptions, and those of callbacks come through: cpp MODEL.gguf FOLDER
#include <attune.hpp>

#include <cstdio>
#include <cstdlib>
#include <memory>

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);  \
            std::exit(1);                                                         \
        }                                                                         \
    } while (0)

template <typename Call> attune_status refused(Call &&call) {
    try {
        call();
    } catch (const attune::Error &e) {
        CHECK(e.what()[0] != 0);
        return e.status();
    }
    return ATTUNE_OK;
}

static void plans_and_memory(const attune::Model &model, const attune::Data &data, attune_tune_options options) {
    auto planned = attune::session_options();
    planned.context = 64;
    attune::Plan plan = model.plan(planned);
    CHECK(plan.totals().buffers == plan.buffers().size() && plan.totals().cache_bytes > 0 && plan.describe().find("cache") != std::string::npos);
    std::vector<char> memory(model.session_size(planned) + ATTUNE_ALIGNMENT);
    size_t room = memory.size();
    void *start = memory.data();
    CHECK(std::align(ATTUNE_ALIGNMENT, model.session_size(planned), start, room));
    attune::Session session(model, start, room, planned);
    auto greedy = attune::generate_options();
    greedy.temperature = 0;
    greedy.max_tokens = 4;
    CHECK(session.complete("The capital of", greedy).details.answer_tokens == session.tokens().size());
    session.reset();
    CHECK(session.complete(model.tokenize("The capital of"), greedy).details.answer_tokens > 0);
    CHECK(session.plan().totals().cache_bytes == plan.totals().cache_bytes);
    uint64_t needed = 0;
    try {
        attune::Tuner tuner(model, data, start, 0, options);
    } catch (const attune::Error &e) {
        CHECK(e.status() == ATTUNE_ERROR_TOO_SMALL);
        needed = e.needed_bytes();
    }
    CHECK(needed > 0 && model.plan(options).totals().adapter_bytes > 0);
    std::vector<char> given(needed + ATTUNE_ALIGNMENT);
    room = given.size(), start = given.data();
    CHECK(std::align(ATTUNE_ALIGNMENT, needed, start, room));
    attune::Tuner tuner(model, data, start, room, options);
    CHECK(tuner.run().reason == ATTUNE_RUN_DONE && tuner.describe().find("\"examples\":3") != std::string::npos);
    CHECK(attune::evaluate(model, data).examples == 3);
}

static void forms_and_versions(const attune::Model &model, const attune::Adapter &adapter, const std::string &folder) {
    const std::string kept = folder + "/kept";
    CHECK(adapter.commit(kept) == 0 && adapter.commit(kept) == 1);
    CHECK(attune::Adapter::versions(kept) == std::vector<uint64_t>{1} && attune::Adapter::rollback(kept) == 1);
    adapter.export_to(model, ATTUNE_FORMAT_PEFT, folder + "/peft");
    CHECK(attune::Adapter(model, folder + "/peft", true).info().rank == adapter.info().rank);
    CHECK(attune::inspect(folder + "/peft").find("rank") != std::string::npos);
    CHECK(model.tokenize("a cow").size() > 1);
}

static void rewards(const attune::Model &model) {
    attune::Data prompts;
    for (const char *question : {"What does a cow say?", "What does a dog say?"}) prompts.add_prompt({{"user", question}});
    auto options = attune::tune_options();
    options.method = attune_str("rloo");
    options.max_length = 64;
    options.steps = 1;
    options.batch_size = 2;
    options.gradient_accumulation = 2;
    auto reinforce = attune::reinforce_options();
    reinforce.max_completion_length = 8;
    size_t asked = 0;
    attune::Tuner tuner(model, prompts, options, reinforce, [&](std::string_view, const std::vector<std::string_view> &answers) {
        std::vector<double> scores;
        for (std::string_view answer : answers) scores.push_back(-double(answer.size()));
        asked += answers.size();
        return scores;
    });
    CHECK(tuner.run().reason == ATTUNE_RUN_DONE && asked >= 4);
    attune::Tuner wrong(model, prompts, options, reinforce, [](std::string_view, const std::vector<std::string_view> &) { return std::vector<double>{}; });
    bool thrown = false;
    try {
        wrong.run();
    } catch (const std::length_error &) {
        thrown = true;
    }
    CHECK(thrown);
    attune::Data pairs;
    pairs.add_pair({{"user", "What does a cow say?"}}, "moo", "woof");
    attune::Data ranked;
    ranked.add_ranking({{"user", "What does a dog say?"}}, {"woof", "moo", "meow"});
    CHECK(ranked.count() == 1);
    auto learning = attune::tune_options();
    learning.method = attune_str("reward");
    learning.steps = 2;
    learning.max_length = 64;
    attune::Tuner teacher(model, pairs, learning);
    CHECK(teacher.run().reason == ATTUNE_RUN_DONE);
    attune::RewardModel judge(model, teacher.adapter());
    CHECK(judge.score({{"user", "What does a cat say?"}}, {"meow", "moo"}).size() == 2);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    const std::string folder = argv[2];
    attune::check_abi();
    int said = 0;
    attune::set_log(ATTUNE_LOG_DEBUG, [&](uint32_t, std::string_view message) { said += !message.empty(); });
    CHECK(refused([] { attune::Model model("/nowhere"); }) == ATTUNE_ERROR_IO);
    attune::Model model(argv[1]);
    CHECK(model.info().layers == 4 && model.describe().find("llama") != std::string::npos);
    attune::Data data;
    for (auto [animal, sound] : {std::pair{"cow", "moo"}, std::pair{"dog", "woof"}, std::pair{"cat", "meow"}})
        data.add(std::string("What does a ") + animal + " say?", sound);
    CHECK(data.count() == 3);
    auto options = attune::tune_options();
    options.rank = 8;
    options.max_length = 32;
    options.steps = 12;
    options.gradient_accumulation = 3;
    options.learning_rate = 3e-3f;
    attune::Tuner tuner(model, data, options);
    int steps = 0;
    auto run = tuner.run(attune::run_options(), [&](const attune_progress &progress) { return progress.loss > 0 && ++steps < 4; });
    CHECK(run.reason == ATTUNE_RUN_PAUSED && steps == 4);
    bool through = false;
    try {
        tuner.run(attune::run_options(), [](const attune_progress &) -> bool { throw std::logic_error("mine"); });
    } catch (const std::logic_error &e) {
        through = std::string(e.what()) == "mine";
    }
    CHECK(through && tuner.progress().step == 5);
    tuner.checkpoint(folder + "/checkpoint");
    attune::Tuner other(model, data, options);
    other.resume(folder + "/checkpoint");
    CHECK(tuner.run().reason == ATTUNE_RUN_DONE && other.run().reason == ATTUNE_RUN_DONE);
    tuner.adapter().save(folder + "/adapter.attune");
    attune::Adapter adapter(model, folder + "/adapter.attune");
    CHECK(adapter.info().rank == 8);
    auto planned = attune::session_options();
    planned.context = 128;
    planned.max_rank = 8;
    attune::Session session(model, planned);
    session.add(adapter);
    auto greedy = attune::generate_options();
    greedy.temperature = 0;
    greedy.max_tokens = 8;
    std::string heard;
    auto answer = session.chat({{"user", "What does a cow say?"}}, greedy, [&](std::string_view text) {
        heard += text;
        return true;
    });
    CHECK(!answer.text.empty() && answer.text == heard && answer.details.prompt_tokens > 3);
    CHECK(session.complete("The capital of", greedy, [](std::string_view) { return false; }).details.finish_reason == ATTUNE_FINISH_CANCELLED);
    attune::Session moved = std::move(session);
    CHECK(session.get() == nullptr && refused([&] { session.reset(); }) == ATTUNE_ERROR_NULL);
    moved.reset();
    attune::Feedback feedback(folder + "/store");
    auto prompt = feedback.add_prompt({{"user", "What does a cow say?"}}, "one");
    feedback.add_edit(feedback.add_answer(prompt, "woof"), "moo");
    CHECK(feedback.data(ATTUNE_LEARN_PAIRS).count() == 1 && feedback.erase_conversation("one") == 3);
    attune::Cancel cancel;
    cancel.ask();
    greedy.cancel = cancel.get();
    CHECK(moved.complete("The", greedy).text.empty());
    plans_and_memory(model, data, options);
    forms_and_versions(model, adapter, folder);
    rewards(model);
    attune::set_log(ATTUNE_LOG_OFF, nullptr);
    std::puts("cpp: all done");
    return 0;
}
