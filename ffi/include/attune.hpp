// attune.hpp - attune.h for C++17: handles that free themselves, errors as exceptions, callbacks as functions.
//
// Nothing is hidden: every class gives its C handle by get(), for what has no method here. Exceptions that a callback throws are
// kept, the call is ended, and they are thrown again when it has returned.
#ifndef ATTUNE_HPP
#define ATTUNE_HPP

#include <attune.h>

#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace attune {

/// What a call could not do, and why.
class Error : public std::runtime_error {
  public:
    Error(attune_status status, const attune_error &error)
        : std::runtime_error(error.message), status_(status), needed_bytes_(error.needed_bytes), detail_(error.detail) {}

    attune_status status() const noexcept { return status_; }
    const char *name() const noexcept { return attune_status_name(status_); }
    /// Bytes that would do, where a budget or given memory was too small.
    uint64_t needed_bytes() const noexcept { return needed_bytes_; }
    uint32_t detail() const noexcept { return detail_; }

  private:
    attune_status status_;
    uint64_t needed_bytes_;
    uint32_t detail_;
};

namespace detail {

inline attune_text text(std::string_view view) { return attune_text{view.data() ? view.data() : "", view.size()}; }

/// Makes a call with a place for its message, and throws where it fails.
template <typename Call> void check(Call &&call) {
    attune_error error = ATTUNE_INIT(attune_error);
    attune_status status = call(&error);
    if (status != ATTUNE_OK) throw Error(status, error);
}

/// A text that is copied out, however long it is.
template <typename Copy> std::string copied(Copy &&copy) {
    size_t length = 0;
    check([&](attune_error *e) { return copy(static_cast<char *>(nullptr), size_t{0}, &length, e); });
    std::string text(length + 1, '\0');
    check([&](attune_error *e) { return copy(text.data(), text.size(), &length, e); });
    text.resize(length);
    return text;
}

/// A function of the app's, and what it threw.
template <typename... Arguments> struct Callback {
    std::function<bool(Arguments...)> function;
    std::exception_ptr thrown;

    /// Calls it; a number other than 0 ends the call of the library.
    int32_t call(Arguments... arguments) noexcept {
        try {
            return function(arguments...) ? 0 : 1;
        } catch (...) {
            thrown = std::current_exception();
            return 1;
        }
    }

    void rethrow() {
        if (thrown) std::rethrow_exception(std::exchange(thrown, nullptr));
    }
};

template <typename T, attune_status (*Free)(T *)> struct Freed {
    void operator()(T *handle) const noexcept { Free(handle); }
};

template <typename T, attune_status (*Free)(T *)> class Handle {
  public:
    /// Takes over a handle.
    explicit Handle(T *handle) : handle_(handle) {}
    T *get() const noexcept { return handle_.get(); }

  private:
    std::unique_ptr<T, Freed<T, Free>> handle_;
};

template <typename T, typename Make> T *made(Make &&make) {
    T *handle = nullptr;
    check([&](attune_error *e) { return make(&handle, e); });
    return handle;
}

template <typename T> T defaults(void (*set)(T *)) {
    T options;
    set(&options);
    return options;
}

} // namespace detail

/// Options as their `_default` functions leave them.
inline attune_session_options session_options() { return detail::defaults(attune_session_options_default); }
inline attune_generate_options generate_options() { return detail::defaults(attune_generate_options_default); }
inline attune_tune_options tune_options() { return detail::defaults(attune_tune_options_default); }
inline attune_evaluate_options evaluate_options() { return detail::defaults(attune_evaluate_options_default); }
inline attune_feedback_options feedback_options() { return detail::defaults(attune_feedback_options_default); }
inline attune_reward_options reward_options() { return detail::defaults(attune_reward_options_default); }
inline attune_reinforce_options reinforce_options() { return detail::defaults(attune_reinforce_options_default); }
inline attune_run_options run_options() { return detail::defaults(attune_run_options_default); }

/// A turn of a conversation.
struct Message {
    std::string role;
    std::string content;
};

namespace detail {
inline std::vector<attune_message> turns(const std::vector<Message> &messages) {
    std::vector<attune_message> turns;
    for (const Message &message : messages) turns.push_back({text(message.role), text(message.content)});
    return turns;
}

inline std::vector<attune_text> texts(const std::vector<std::string> &strings) {
    std::vector<attune_text> texts;
    for (const std::string &string : strings) texts.push_back(text(string));
    return texts;
}

/// An array that is copied out, however long it is.
template <typename T, typename Copy> std::vector<T> listed(Copy &&copy) {
    size_t count = 0;
    check([&](attune_error *e) { return copy(static_cast<T *>(nullptr), size_t{0}, &count, e); });
    std::vector<T> list(count);
    if (count != 0) check([&](attune_error *e) { return copy(list.data(), list.size(), &count, e); });
    return list;
}
} // namespace detail

/// The version of the library that is loaded, as `1.2.3`.
inline std::string version() { return attune_version(); }

/// Throws where the library that is loaded is not the one that this header belongs to. To be called at start.
inline void check_abi() {
    if (attune_abi_version() != ATTUNE_ABI_VERSION) throw std::runtime_error("attune: the library has another ABI version than the header");
}

/// Sends what happens to a function, from any thread; an empty one for none. It must not throw.
inline void set_log(uint32_t level, std::function<void(uint32_t level, std::string_view message)> listener) {
    using Listener = std::function<void(uint32_t, std::string_view)>;
    static std::shared_ptr<Listener> kept;
    auto next = listener ? std::make_shared<Listener>(std::move(listener)) : nullptr;
    attune_log_fn call = nullptr;
    if (next) {
        call = [](void *user, uint32_t at, attune_text message) { (*static_cast<Listener *>(user))(at, std::string_view(message.data, message.length)); };
    }
    detail::check([&](attune_error *e) { return attune_log_set(level, call, next.get(), e); });
    // The one before is not called any more.
    kept = std::move(next);
}

/// All that there is to know about a file or a folder, as JSON: a model, or an adapter in any form.
inline std::string inspect(std::string_view path) {
    return detail::copied([&](char *to, size_t size, size_t *length, auto e) { return attune_inspect(detail::text(path), to, size, length, e); });
}

/// Ends calls from another thread.
class Cancel : public detail::Handle<attune_cancel, attune_cancel_free> {
  public:
    Cancel() : Handle(detail::made<attune_cancel>([](auto out, auto e) { return attune_cancel_new(out, e); })) {}
    void ask() {
        detail::check([&](auto e) { return attune_cancel_ask(get(), e); });
    }
    void take_back() {
        detail::check([&](auto e) { return attune_cancel_take_back(get(), e); });
    }
};

/// Every buffer that a session or a tuner takes.
class Plan : public detail::Handle<attune_plan, attune_plan_free> {
  public:
    using Handle::Handle;

    attune_plan_totals totals() const {
        attune_plan_totals totals = ATTUNE_INIT(attune_plan_totals);
        detail::check([&](auto e) { return attune_plan_get_totals(get(), &totals, e); });
        return totals;
    }
    std::vector<attune_plan_buffer> buffers() const {
        std::vector<attune_plan_buffer> buffers(totals().buffers, ATTUNE_INIT(attune_plan_buffer));
        for (uint32_t i = 0; i < buffers.size(); ++i)
            detail::check([&](auto e) { return attune_plan_get_buffer(get(), i, &buffers[i], e); });
        return buffers;
    }
    /// Totals, buffers, and what a budget has turned, as JSON.
    std::string describe() const {
        return detail::copied([&](char *to, size_t size, size_t *length, auto e) { return attune_plan_describe(get(), to, size, length, e); });
    }
};

class Model : public detail::Handle<attune_model, attune_model_free> {
  public:
    using Handle::Handle;

    /// Opens a model in a file that is open already: `length` bytes from `offset` on, up to its end for 0. The descriptor stays the caller's.
    static Model from_descriptor(int32_t descriptor, uint64_t offset = 0, uint64_t length = 0, std::string_view name = "model") {
        return Model(detail::made<attune_model>(
            [&](auto out, auto e) { return attune_model_open_descriptor(descriptor, offset, length, detail::text(name), out, e); }));
    }
    /// Opens a model in memory of the caller's, which must outlive it and all that is made from it.
    static Model from_memory(const void *data, size_t size, std::string_view name = "model") {
        return Model(detail::made<attune_model>(
            [&](auto out, auto e) { return attune_model_open_memory(data, size, nullptr, nullptr, detail::text(name), out, e); }));
    }
    /// Opens a model of `length` bytes that a function gives: it fills `size` bytes from `offset` on, or returns false.
    static Model from_reader(uint64_t length, std::function<bool(uint64_t offset, void *buffer, size_t size)> read_at, std::string_view name = "model") {
        using Reader = detail::Callback<uint64_t, void *, size_t>;
        Reader listener{std::move(read_at), nullptr};
        attune_reader reader = ATTUNE_INIT(attune_reader);
        reader.length = length;
        reader.user = &listener;
        reader.read_at = [](void *user, uint64_t offset, void *buffer, size_t size) -> int32_t {
            return static_cast<Reader *>(user)->call(offset, buffer, size);
        };
        attune_model *handle = nullptr;
        attune_error error = ATTUNE_INIT(attune_error);
        attune_status status = attune_model_open_reader(&reader, detail::text(name), &handle, &error);
        listener.rethrow();
        if (status != ATTUNE_OK) throw Error(status, error);
        return Model(handle);
    }

    /// Opens a GGUF file.
    explicit Model(std::string_view path)
        : Handle(detail::made<attune_model>([&](auto out, auto e) { return attune_model_open(detail::text(path), out, e); })) {}

    attune_model_info info() const {
        attune_model_info info = ATTUNE_INIT(attune_model_info);
        detail::check([&](auto e) { return attune_model_get_info(get(), &info, e); });
        return info;
    }
    /// All that there is to know about it, as JSON.
    std::string describe() const {
        return detail::copied([&](char *to, size_t size, size_t *length, auto e) { return attune_model_describe(get(), to, size, length, e); });
    }
    std::vector<uint32_t> tokenize(std::string_view text, bool parse_special = false) const {
        return detail::listed<uint32_t>([&](uint32_t *to, size_t size, size_t *count, auto e) {
            return attune_model_tokenize(get(), detail::text(text), parse_special, to, size, count, e);
        });
    }
    /// What a session with these options will take.
    Plan plan(const attune_session_options &options) const {
        return Plan(detail::made<attune_plan>([&](auto out, auto e) { return attune_plan_session(get(), &options, out, e); }));
    }
    /// What a tuner with these options will take.
    Plan plan(const attune_tune_options &options) const {
        return Plan(detail::made<attune_plan>([&](auto out, auto e) { return attune_plan_tuning(get(), &options, out, e); }));
    }
    /// Bytes of memory that a session needs which is given its memory.
    uint64_t session_size(const attune_session_options &options) const {
        uint64_t bytes = 0;
        detail::check([&](auto e) { return attune_session_size(get(), &options, &bytes, e); });
        return bytes;
    }
};

class Adapter : public detail::Handle<attune_adapter, attune_adapter_free> {
  public:
    using Handle::Handle;
    Adapter(const Model &model, std::string_view path, bool any_base = false)
        : Handle(detail::made<attune_adapter>(
              [&](auto out, auto e) { return attune_adapter_open(model.get(), detail::text(path), any_base, out, e); })) {}

    attune_adapter_info info() const {
        attune_adapter_info info = ATTUNE_INIT(attune_adapter_info);
        detail::check([&](auto e) { return attune_adapter_get_info(get(), &info, e); });
        return info;
    }
    void save(std::string_view path) const {
        detail::check([&](auto e) { return attune_adapter_save(get(), detail::text(path), e); });
    }
    /// Writes it in one of the `ATTUNE_FORMAT_...`: a file, or for PEFT a folder.
    void export_to(const Model &model, uint32_t format, std::string_view path) const {
        detail::check([&](auto e) { return attune_adapter_export(get(), model.get(), format, detail::text(path), e); });
    }
    /// Makes it the one of a folder. The number of the one that was there, now a version; 0 if there was none.
    uint64_t commit(std::string_view folder) const {
        uint64_t version = 0;
        detail::check([&](auto e) { return attune_adapter_commit(get(), detail::text(folder), &version, e); });
        return version;
    }
    /// The numbers of a folder's earlier adapters, the oldest first.
    static std::vector<uint64_t> versions(std::string_view folder) {
        return detail::listed<uint64_t>(
            [&](uint64_t *to, size_t size, size_t *count, auto e) { return attune_adapter_versions(detail::text(folder), to, size, count, e); });
    }
    /// Brings an earlier adapter of a folder back, the newest of them for 0; the number of the one that is back.
    static uint64_t rollback(std::string_view folder, uint64_t version = 0) {
        uint64_t restored = 0;
        detail::check([&](auto e) { return attune_adapter_rollback(detail::text(folder), version, &restored, e); });
        return restored;
    }
};

/// Examples, pairs, ratings or rankings.
class Data : public detail::Handle<attune_data, attune_data_free> {
  public:
    using Handle::Handle;
    Data() : Handle(detail::made<attune_data>([](auto out, auto e) { return attune_data_new(out, e); })) {}
    /// Opens a file of examples.
    explicit Data(std::string_view path)
        : Handle(detail::made<attune_data>([&](auto out, auto e) { return attune_data_open(detail::text(path), out, e); })) {}

    void add(const std::vector<Message> &messages) {
        auto turns = detail::turns(messages);
        detail::check([&](auto e) { return attune_data_add_example(get(), turns.data(), turns.size(), e); });
    }
    void add(std::string_view prompt, std::string_view answer) {
        detail::check([&](auto e) { return attune_data_add_answer(get(), detail::text(prompt), detail::text(answer), e); });
    }
    void add_pair(const std::vector<Message> &prompt, std::string_view chosen, std::string_view rejected) {
        auto turns = detail::turns(prompt);
        detail::check([&](auto e) {
            return attune_data_add_pair(get(), turns.data(), turns.size(), detail::text(chosen), detail::text(rejected), e);
        });
    }
    void add_rating(const std::vector<Message> &prompt, std::string_view answer, bool liked) {
        auto turns = detail::turns(prompt);
        detail::check([&](auto e) { return attune_data_add_rating(get(), turns.data(), turns.size(), detail::text(answer), liked, e); });
    }
    /// Answers to one conversation, best first.
    void add_ranking(const std::vector<Message> &prompt, const std::vector<std::string> &answers) {
        auto turns = detail::turns(prompt);
        auto texts = detail::texts(answers);
        detail::check([&](auto e) { return attune_data_add_ranking(get(), turns.data(), turns.size(), texts.data(), texts.size(), e); });
    }
    /// A conversation to be answered by the model itself, for tuning on rewards.
    void add_prompt(const std::vector<Message> &prompt) {
        auto turns = detail::turns(prompt);
        detail::check([&](auto e) { return attune_data_add_prompt(get(), turns.data(), turns.size(), e); });
    }
    /// Lines of JSON in one of the formats of files.
    void add_lines(std::string_view lines) {
        detail::check([&](auto e) { return attune_data_add_lines(get(), detail::text(lines), e); });
    }
    size_t count() const {
        size_t count = 0;
        detail::check([&](auto e) { return attune_data_count(get(), &count, e); });
        return count;
    }
};

/// An answer and how it ended.
struct Answer {
    std::string text;
    attune_generation details;
};

class Session : public detail::Handle<attune_session, attune_session_free> {
  public:
    using Handle::Handle;
    explicit Session(const Model &model, const attune_session_options &options = session_options())
        : Handle(detail::made<attune_session>([&](auto out, auto e) { return attune_session_new(model.get(), &options, out, e); })) {}
    /// One whose memory is the caller's: `Model::session_size` bytes from a multiple of `ATTUNE_ALIGNMENT` on, its alone until it is destroyed.
    Session(const Model &model, void *memory, size_t size, const attune_session_options &options = session_options())
        : Handle(detail::made<attune_session>(
              [&](auto out, auto e) { return attune_session_new_in(model.get(), &options, memory, size, out, e); })) {}

    /// What it has taken.
    Plan plan() {
        return Plan(detail::made<attune_plan>([&](auto out, auto e) { return attune_session_get_plan(get(), out, e); }));
    }
    /// The tokens of the last answer.
    std::vector<uint32_t> tokens() {
        return detail::listed<uint32_t>(
            [&](uint32_t *to, size_t size, size_t *count, auto e) { return attune_session_tokens(get(), to, size, count, e); });
    }

    /// Puts an adapter into use; its number in the session.
    uint32_t add(const Adapter &adapter, float scale = 1) {
        uint32_t index = 0;
        detail::check([&](auto e) { return attune_session_add_adapter(get(), adapter.get(), scale, &index, e); });
        return index;
    }
    void scale(uint32_t index, float scale) {
        detail::check([&](auto e) { return attune_session_scale_adapter(get(), index, scale, e); });
    }
    void reset() {
        detail::check([&](auto e) { return attune_session_reset(get(), e); });
    }

    /// Answers a conversation; `on_token` hears of the text as it comes, and ends the answer by returning false.
    Answer chat(const std::vector<Message> &messages, attune_generate_options options = generate_options(),
                std::function<bool(std::string_view)> on_token = nullptr) {
        auto turns = detail::turns(messages);
        return answer(options, std::move(on_token), [&](const attune_generate_options *o, attune_generation *made, attune_error *e) {
            return attune_session_chat(get(), turns.data(), turns.size(), o, made, e);
        });
    }

    /// Goes on with a text as it stands.
    Answer complete(std::string_view text, attune_generate_options options = generate_options(),
                    std::function<bool(std::string_view)> on_token = nullptr) {
        return answer(options, std::move(on_token), [&](const attune_generate_options *o, attune_generation *made, attune_error *e) {
            return attune_session_complete(get(), detail::text(text), o, made, e);
        });
    }

    /// Goes on with token ids.
    Answer complete(const std::vector<uint32_t> &ids, attune_generate_options options = generate_options(),
                    std::function<bool(std::string_view)> on_token = nullptr) {
        return answer(options, std::move(on_token), [&](const attune_generate_options *o, attune_generation *made, attune_error *e) {
            return attune_session_continue(get(), ids.data(), ids.size(), o, made, e);
        });
    }

  private:
    using Listener = detail::Callback<std::string_view>;

    template <typename Call> Answer answer(attune_generate_options &options, std::function<bool(std::string_view)> on_token, Call &&call) {
        Listener listener{std::move(on_token), nullptr};
        if (listener.function) {
            options.user = &listener;
            options.on_token = [](void *user, attune_text text) -> int32_t {
                return static_cast<Listener *>(user)->call(std::string_view(text.data, text.length));
            };
        }
        attune_generation made = ATTUNE_INIT(attune_generation);
        detail::check([&](auto e) { return call(&options, &made, e); });
        listener.rethrow();
        return {detail::copied([&](char *to, size_t size, size_t *length, auto e) { return attune_session_text(get(), to, size, length, e); }),
                made};
    }
};

/// Scores answers to a prompt, a number for each.
using Rewards = std::function<std::vector<double>(std::string_view prompt, const std::vector<std::string_view> &answers)>;

class Tuner : public detail::Handle<attune_tuner, attune_tuner_free> {
  public:
    using Handle::Handle;
    Tuner(const Model &model, const Data &data, const attune_tune_options &options = tune_options())
        : Handle(detail::made<attune_tuner>([&](auto out, auto e) { return attune_tuner_new(model.get(), data.get(), &options, out, e); })) {}
    /// One that learns from rewards, `options.method` being grpo or rloo: what the app's own function gives is added to `reinforce.rewards`.
    Tuner(const Model &model, const Data &data, attune_tune_options options, attune_reinforce_options reinforce, Rewards rewards)
        : Tuner(model, data, options, reinforce, std::make_unique<Scorer>(Scorer{std::move(rewards), nullptr})) {}
    /// One whose memory is the caller's, from a multiple of `ATTUNE_ALIGNMENT` on, its alone until it is destroyed. With too little of it, an error says
    /// how much would do.
    Tuner(const Model &model, const Data &data, void *memory, size_t size, const attune_tune_options &options = tune_options())
        : Handle(detail::made<attune_tuner>(
              [&](auto out, auto e) { return attune_tuner_new_in(model.get(), data.get(), &options, memory, size, out, e); })) {}

    /// What it has taken.
    Plan plan() {
        return Plan(detail::made<attune_plan>([&](auto out, auto e) { return attune_tuner_get_plan(get(), out, e); }));
    }
    /// What became of the examples, as JSON.
    std::string describe() {
        return detail::copied([&](char *to, size_t size, size_t *length, auto e) { return attune_tuner_describe(get(), to, size, length, e); });
    }

    /// Learns; `on_step` hears of each update, and pauses by returning false.
    attune_run run(attune_run_options options = run_options(), std::function<bool(const attune_progress &)> on_step = nullptr) {
        using Listener = detail::Callback<const attune_progress &>;
        Listener listener{std::move(on_step), nullptr};
        if (listener.function) {
            options.user = &listener;
            options.on_step = [](void *user, const attune_progress *progress) -> int32_t {
                return static_cast<Listener *>(user)->call(*progress);
            };
        }
        attune_run run = ATTUNE_INIT(attune_run);
        attune_error error = ATTUNE_INIT(attune_error);
        attune_status status = attune_tuner_run(get(), &options, &run, &error);
        // Both are taken, so that none is left for the next run.
        std::exception_ptr scored = scorer_ ? std::exchange(scorer_->thrown, nullptr) : nullptr;
        listener.rethrow();
        if (scored) std::rethrow_exception(scored);
        if (status != ATTUNE_OK) throw Error(status, error);
        return run;
    }
    attune_progress progress() const {
        attune_progress progress = ATTUNE_INIT(attune_progress);
        detail::check([&](auto e) { return attune_tuner_get_progress(get(), &progress, e); });
        return progress;
    }
    Adapter adapter() {
        return Adapter(detail::made<attune_adapter>([&](auto out, auto e) { return attune_tuner_get_adapter(get(), out, e); }));
    }
    void checkpoint(std::string_view folder) {
        detail::check([&](auto e) { return attune_tuner_checkpoint(get(), detail::text(folder), e); });
    }
    void resume(std::string_view folder) {
        detail::check([&](auto e) { return attune_tuner_resume(get(), detail::text(folder), e); });
    }

  private:
    struct Scorer {
        Rewards rewards;
        std::exception_ptr thrown;

        int32_t score(attune_text prompt, const attune_text *answers, size_t count, double *scores) noexcept {
            try {
                std::vector<std::string_view> views;
                for (size_t i = 0; i < count; ++i) views.emplace_back(answers[i].data, answers[i].length);
                std::vector<double> made = rewards(std::string_view(prompt.data, prompt.length), views);
                if (made.size() != count) throw std::length_error("as many rewards as answers were expected");
                for (size_t i = 0; i < count; ++i) scores[i] = made[i];
                return 0;
            } catch (...) {
                thrown = std::current_exception();
                return 1;
            }
        }
    };

    Tuner(const Model &model, const Data &data, attune_tune_options &options, attune_reinforce_options &reinforce, std::unique_ptr<Scorer> scorer)
        : Handle(detail::made<attune_tuner>([&](auto out, auto e) {
              reinforce.user = scorer.get();
              reinforce.on_reward = [](void *user, attune_text prompt, const attune_text *answers, size_t count, double *scores) -> int32_t {
                  return static_cast<Scorer *>(user)->score(prompt, answers, count, scores);
              };
              options.reinforce = &reinforce;
              return attune_tuner_new(model.get(), data.get(), &options, out, e);
          })),
          scorer_(std::move(scorer)) {}

    // Lives as long as the tuner, which calls it.
    std::unique_ptr<Scorer> scorer_;
};

/// What a model, with or without an adapter (`options.adapter`), makes of examples.
inline attune_evaluation evaluate(const Model &model, const Data &data, const attune_evaluate_options &options = evaluate_options()) {
    attune_evaluation evaluation = ATTUNE_INIT(attune_evaluation);
    detail::check([&](auto e) { return attune_evaluate(model.get(), data.get(), &options, &evaluation, e); });
    return evaluation;
}

/// A model that scores answers: an adapter that was tuned with the method `reward`.
class RewardModel : public detail::Handle<attune_reward, attune_reward_free> {
  public:
    using Handle::Handle;
    RewardModel(const Model &model, const Adapter &adapter, const attune_reward_options &options = reward_options())
        : Handle(detail::made<attune_reward>([&](auto out, auto e) { return attune_reward_new(model.get(), adapter.get(), &options, out, e); })) {}

    /// A score for each answer to a conversation.
    std::vector<float> score(const std::vector<Message> &prompt, const std::vector<std::string> &answers) {
        auto turns = detail::turns(prompt);
        auto texts = detail::texts(answers);
        std::vector<float> scores(answers.size());
        detail::check([&](auto e) {
            return attune_reward_score(get(), turns.data(), turns.size(), texts.data(), texts.size(), scores.data(), e);
        });
        return scores;
    }
};

/// What people made of the answers, on disk.
class Feedback : public detail::Handle<attune_feedback, attune_feedback_free> {
  public:
    using Handle::Handle;
    explicit Feedback(std::string_view path, const attune_feedback_options &options = feedback_options())
        : Handle(detail::made<attune_feedback>([&](auto out, auto e) { return attune_feedback_open(detail::text(path), &options, out, e); })) {}

    uint64_t add_prompt(const std::vector<Message> &prompt, std::string_view conversation = {}) {
        auto turns = detail::turns(prompt);
        attune_text name = conversation.empty() ? attune_text{nullptr, 0} : detail::text(conversation);
        return id([&](uint64_t *id, auto e) { return attune_feedback_add_prompt(get(), turns.data(), turns.size(), name, id, e); });
    }
    uint64_t add_answer(uint64_t prompt, std::string_view answer) {
        return id([&](uint64_t *id, auto e) { return attune_feedback_add_answer(get(), prompt, detail::text(answer), id, e); });
    }
    uint64_t add_edit(uint64_t answer, std::string_view edited) {
        return id([&](uint64_t *id, auto e) { return attune_feedback_add_edit(get(), answer, detail::text(edited), id, e); });
    }
    void add_thumb(uint64_t answer, uint32_t thumb) {
        detail::check([&](auto e) { return attune_feedback_add_thumb(get(), answer, thumb, e); });
    }
    /// Examples of what it says: `ATTUNE_LEARN_...`.
    Data data(uint32_t learn) {
        return Data(detail::made<attune_data>([&](auto out, auto e) { return attune_feedback_get_data(get(), learn, out, e); }));
    }
    uint64_t erase_conversation(std::string_view conversation) {
        return id([&](uint64_t *count, auto e) { return attune_feedback_erase_conversation(get(), detail::text(conversation), count, e); });
    }
    /// Another answer in the place of one; its number.
    uint64_t add_regenerated(uint64_t answer, std::string_view other) {
        return id([&](uint64_t *id, auto e) { return attune_feedback_add_regenerated(get(), answer, detail::text(other), id, e); });
    }
    void add_kept(uint64_t answer) {
        detail::check([&](auto e) { return attune_feedback_add_kept(get(), answer, e); });
    }
    /// Answers to one prompt, best first.
    void add_rank(const std::vector<uint64_t> &answers) {
        detail::check([&](auto e) { return attune_feedback_add_rank(get(), answers.data(), answers.size(), e); });
    }
    void flush() {
        detail::check([&](auto e) { return attune_feedback_flush(get(), e); });
    }
    /// What it holds and what can be learnt from it, as JSON.
    std::string describe(uint32_t learn) {
        return detail::copied(
            [&](char *to, size_t size, size_t *length, auto e) { return attune_feedback_describe(get(), learn, to, size, length, e); });
    }
    /// Writes examples to a file of JSON lines; how many.
    size_t export_to(uint32_t learn, std::string_view path) {
        size_t count = 0;
        detail::check([&](auto e) { return attune_feedback_export(get(), learn, detail::text(path), &count, e); });
        return count;
    }
    /// Writes every event to a file; how many.
    size_t export_events(std::string_view path) {
        size_t count = 0;
        detail::check([&](auto e) { return attune_feedback_export_events(get(), detail::text(path), &count, e); });
        return count;
    }
    /// Erases events by their numbers, and all that is about them; how many went.
    uint64_t erase(const std::vector<uint64_t> &ids) {
        return id([&](uint64_t *count, auto e) { return attune_feedback_erase(get(), ids.data(), ids.size(), count, e); });
    }
    uint64_t erase_all() {
        return id([&](uint64_t *count, auto e) { return attune_feedback_erase_all(get(), count, e); });
    }

  private:
    template <typename Call> static uint64_t id(Call &&call) {
        uint64_t id = 0;
        detail::check([&](auto e) { return call(&id, e); });
        return id;
    }
};

} // namespace attune

#endif
