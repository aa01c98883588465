// The same from C++17: handles free themselves, errors are exceptions, and those of callbacks come through: cpp MODEL.gguf FOLDER
#include <attune.hpp>

#include <cstdio>
#include <cstdlib>

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

int main(int argc, char **argv) {
    CHECK(argc == 3);
    const std::string folder = argv[2];
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
    std::puts("cpp: all done");
    return 0;
}
