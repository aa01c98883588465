"""llama.cpp through llama-cpp-python's own bindings of its C interface: prefill, decoding, opening.

As `llama-bench` does it: a prompt in one batch from an empty cache, and tokens one by one from an empty cache, each with its logits.
"""

import ctypes
import time

import llama_cpp as llama
import numpy

import worker


@llama.llama_log_callback
def silent(level, text, data):
    pass


class Peer:
    def load(self, path, threads, context, repack=True):
        llama.llama_log_set(silent, ctypes.c_void_p(0))
        llama.llama_backend_init()
        self.path, self.threads, self.context, self.repack = path.encode(), threads, context, repack
        began = time.perf_counter()
        self.open()
        loaded = time.perf_counter() - began
        self.vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        return {"version": llama.__version__, "seconds": loaded, "resident_bytes": worker.resident()}

    def open(self):
        parameters = llama.llama_model_default_params()
        parameters.use_extra_bufts = self.repack
        self.model = llama.llama_model_load_from_file(self.path, parameters)
        if not self.model:
            raise RuntimeError("the file does not load")
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = self.context
        parameters.n_batch = parameters.n_ubatch = 512
        parameters.n_threads = parameters.n_threads_batch = self.threads
        self.state = llama.llama_init_from_model(self.model, parameters)
        if not self.state:
            raise RuntimeError("no context")

    def close(self):
        llama.llama_free(self.state)
        llama.llama_model_free(self.model)

    def feed(self, ids):
        tokens = (llama.llama_token * len(ids))(*ids)
        if llama.llama_decode(self.state, llama.llama_batch_get_one(tokens, len(ids))) != 0:
            raise RuntimeError("decoding failed")
        llama.llama_synchronize(self.state)

    def timed(self, batches):
        llama.llama_memory_clear(llama.llama_get_memory(self.state), True)
        began = time.perf_counter()
        for batch in batches:
            self.feed(batch)
        return time.perf_counter() - began

    def run(self, prefill, decode, repeat=1):
        """Seconds of each of `repeat` prompts and answers."""
        ids = [(i * 7919 + 11) % self.vocab for i in range(max(prefill, decode))]
        chunks = [ids[i : min(i + 512, prefill)] for i in range(0, prefill, 512)]
        seconds = [(self.timed(chunks), self.timed([[id] for id in ids[:decode]])) for _ in range(repeat)]
        return {"prefill": [p for p, _ in seconds], "decode": [d for _, d in seconds]}

    def first_token(self, repeat=1):
        """Seconds from opening the file to the logits after a prompt of one token."""
        seconds = []
        for _ in range(repeat):
            self.close()
            began = time.perf_counter()
            self.open()
            self.feed([1])
            logits = llama.llama_get_logits_ith(self.state, -1)
            numpy.ctypeslib.as_array(logits, (self.vocab,)).argmax()
            seconds.append(time.perf_counter() - began)
        return {"seconds": seconds}


if __name__ == "__main__":
    peer = Peer()
    worker.serve({"load": peer.load, "run": peer.run, "first_token": peer.first_token})
