// What fuzzers share: edges seen, the input at hand, and the line that replays it. Included by one source
// of a program. In the sanitizer build (NOZZLE_SANITIZE) the fuzzed sources are compiled with trace-pc,
// whose edges decide which inputs are kept and mutated further; in the plain build only the inputs that a
// fuzzer begins with are.
#pragma once

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <random>
#include <string>
#include <vector>

using bytes = std::vector<uint8_t>;

static const size_t EDGE_MAP = 1 << 16;
static uint8_t   edges[EDGE_MAP]; // 1 = seen in this run of the process
static size_t    n_edges = 0;
static uintptr_t last_pc = 0;

extern "C" void __sanitizer_cov_trace_pc() {
    const uintptr_t pc = (uintptr_t) __builtin_return_address(0);
    uint8_t & edge = edges[((pc * 0x9e3779b97f4a7c15u) ^ (last_pc >> 1)) % EDGE_MAP];
    n_edges += edge == 0;
    edge    = 1;
    last_pc = pc * 0x9e3779b97f4a7c15u;
}

// Both end by SIGABRT, whose handler prints the replay. Leaks are libllama's affair as much as ours.
extern "C" const char * __asan_default_options() { return "abort_on_error=1:detect_leaks=0"; }
extern "C" const char * __ubsan_default_options() { return "abort_on_error=1:print_stacktrace=1"; }

static const char * fuzzer_name = "";
static std::string  replay_prefix;
static bytes        current;

static std::string to_hex(const bytes & input) {
    std::string out;
    for (const uint8_t byte : input) {
        char text[3];
        snprintf(text, sizeof text, "%02x", byte);
        out += text;
    }
    return out;
}

static bytes from_hex(const char * at) {
    bytes out;
    for (; at[0] && at[1]; at += 2) {
        out.push_back((uint8_t) strtol(std::string(at, 2).c_str(), nullptr, 16));
    }
    return out;
}

static void print_replay() {
    fprintf(stderr, "%s: replay: %s --input %s\n", fuzzer_name, replay_prefix.c_str(), to_hex(current).c_str());
}

[[noreturn]] static void finding(const std::string & what) {
    fprintf(stderr, "%s: FINDING: %s\n", fuzzer_name, what.c_str());
    print_replay();
    _Exit(1);
}

static void begin_fuzzing(const char * name, const std::string & replay) {
    fuzzer_name   = name;
    replay_prefix = replay;
    signal(SIGABRT, [](int) { print_replay(); });
}

static double cpu_seconds() { return (double) clock() / CLOCKS_PER_SEC; }

// Runs mutations of `corpus` until so many seconds of CPU are spent; what shows a new edge joins it.
template <class Source, class Target>
static void fuzz_for(double seconds, std::vector<bytes> & corpus, Source & source, Target & target) {
    const double until = cpu_seconds() + seconds;
    while (cpu_seconds() < until) {
        bytes input = corpus[source.below(corpus.size())];
        for (uint64_t left = 1 + source.below(4); left > 0; --left) {
            source.mutate(input, corpus);
        }
        const size_t before = n_edges;
        current = input;
        last_pc = 0;
        target.run(input);
        if (n_edges > before) {
            corpus.push_back(input);
        }
    }
}
