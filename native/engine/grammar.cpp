#include "grammar.h"

#include <algorithm>
#include <cctype>
#include <map>

namespace nozzle {

static constexpr size_t   TEXT_MAX       = 256 * 1024; // bytes
static constexpr size_t   ELEMENTS_MAX   = 128 * 1024;
static constexpr size_t   RULES_MAX      = 16 * 1024;  // groups and repetitions make rules too
static constexpr int      NESTING_MAX    = 64;
static constexpr uint32_t REPETITION_MAX = 1000 * 1000;
static constexpr uint32_t CODE_POINT_MAX = 0x10ffff;

using code_points = std::vector<std::pair<uint32_t, uint32_t>>;

// The first range that ends at `code_point` or later.
static code_points::const_iterator range_from(const code_points & ranges, uint32_t code_point) {
    return std::lower_bound(ranges.begin(), ranges.end(), code_point,
                            [](const auto & range, uint32_t point) { return range.second < point; });
}

bool character_class::contains(uint32_t code_point) const {
    const auto range = range_from(ranges, code_point);
    return (range != ranges.end() && range->first <= code_point) != is_negated;
}

bool character_class::meets(uint32_t low, uint32_t high) const {
    const auto range = range_from(ranges, low);
    if (!is_negated) {
        return range != ranges.end() && range->first <= high;
    }
    // Behind the range that covers `low` nothing is covered.
    const bool is_covered = range != ranges.end() && range->first <= low;
    return (is_covered ? range->second + 1 : low) <= high;
}

static void merge(code_points & ranges) {
    std::sort(ranges.begin(), ranges.end());
    size_t n = 0;
    for (const auto & range : ranges) {
        if (n > 0 && range.first <= ranges[n - 1].second + 1) {
            ranges[n - 1].second = std::max(ranges[n - 1].second, range.second);
        } else {
            ranges[n++] = range;
        }
    }
    ranges.resize(n);
}

size_t grammar::bytes() const {
    size_t out = elements.size() * sizeof(grammar_element);
    for (const auto & alternatives : rules) {
        out += sizeof(alternatives) + alternatives.size() * sizeof(uint32_t);
    }
    for (const character_class & c : classes) {
        out += sizeof(c) + c.ranges.size() * sizeof(c.ranges[0]);
    }
    return out;
}

namespace {

struct syntax_error {
    std::string what;
};

class parser {
  public:
    parser(const std::string & t, grammar & g) : text(t), out(g) {}

    void run() {
        skip_space(true);
        while (!at_end()) {
            parse_rule();
        }
        for (const auto & named : names) {
            if (out.rules[named.second].empty()) {
                fail("rule '" + named.first + "' is used and not defined");
            }
        }
        const auto root = names.find("root");
        if (root == names.end()) {
            fail("there is no rule 'root'");
        }
        out.root = root->second;
        refuse_left_recursion();
    }

  private:
    using sequence = std::vector<grammar_element>;

    [[noreturn]] void fail(const std::string & what) const {
        const auto line = std::count(text.begin(), text.begin() + std::min(at, text.size()), '\n') + 1;
        throw syntax_error{ "line " + std::to_string(line) + ": " + what };
    }
    bool at_end() const { return at >= text.size(); }
    char peek() const { return at_end() ? '\0' : text[at]; }
    bool take(char c) {
        if (peek() != c || at_end()) {
            return false;
        }
        ++at;
        return true;
    }

    void skip_space(bool with_newlines) {
        while (!at_end()) {
            const char c = text[at];
            if (c == '#') {
                while (!at_end() && text[at] != '\n' && text[at] != '\r') {
                    ++at;
                }
            } else if (c == ' ' || c == '\t' || (with_newlines && (c == '\n' || c == '\r'))) {
                ++at;
            } else {
                return;
            }
        }
    }

    static bool is_word(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
    }

    uint32_t add_rule() {
        if (out.rules.size() >= RULES_MAX) {
            fail("more than " + std::to_string(RULES_MAX) + " rules, groups and repetitions");
        }
        out.rules.emplace_back();
        return (uint32_t) out.rules.size() - 1;
    }

    uint32_t parse_name() {
        const size_t begin = at;
        while (!at_end() && is_word(text[at])) {
            ++at;
        }
        if (at == begin) {
            fail("a rule name was expected: letters, digits and '-'");
        }
        const std::string name = text.substr(begin, at - begin);
        const auto known = names.find(name);
        return known != names.end() ? known->second : names[name] = add_rule();
    }

    void parse_rule() {
        const uint32_t rule = parse_name();
        skip_space(false);
        if (text.compare(at, 3, "::=") != 0) {
            fail("'::=' was expected after the rule's name");
        }
        at += 3;
        if (!out.rules[rule].empty()) {
            fail("the rule is defined twice");
        }
        skip_space(true);
        parse_alternatives(rule, false, 0);
        if (!at_end() && peek() != '\n' && peek() != '\r') {
            fail(std::string("unexpected '") + peek() + "'");
        }
        skip_space(true);
    }

    void parse_alternatives(uint32_t rule, bool is_nested, int depth) {
        if (depth > NESTING_MAX) {
            fail("groups are nested more than " + std::to_string(NESTING_MAX) + " deep");
        }
        do {
            add_alternative(rule, parse_sequence(is_nested, depth));
        } while (take_bar());
    }

    bool take_bar() {
        if (!take('|')) {
            return false;
        }
        skip_space(true);
        return true;
    }

    void add_alternative(uint32_t rule, const sequence & items) {
        if (out.elements.size() + items.size() + 1 > ELEMENTS_MAX) {
            fail("the grammar is too large");
        }
        out.rules[rule].push_back((uint32_t) out.elements.size());
        out.elements.insert(out.elements.end(), items.begin(), items.end());
        out.elements.push_back({ element_kind::END });
    }

    sequence parse_sequence(bool is_nested, int depth) {
        sequence items;
        size_t   item = 0; // where the last item, that a repetition applies to, begins
        bool     has_item = false;
        for (;; skip_space(is_nested)) {
            const char c = peek();
            if (c == '*' || c == '+' || c == '?' || c == '{') {
                if (!has_item || item == items.size()) {
                    fail("there is nothing to repeat");
                }
                const auto times = parse_times();
                repeat(items, item, times.first, times.second);
                has_item = item < items.size();
                continue;
            }
            const size_t begin = items.size();
            if (c == '"') {
                parse_literal(items);
            } else if (c == '[') {
                items.push_back({ element_kind::CHARACTERS, parse_class() });
            } else if (c == '.') {
                ++at;
                items.push_back({ element_kind::CHARACTERS, add_class({ true, {} }) });
            } else if (c == '(') {
                ++at;
                const uint32_t rule = add_rule();
                skip_space(true);
                parse_alternatives(rule, true, depth + 1);
                if (!take(')')) {
                    fail("')' was expected");
                }
                items.push_back({ element_kind::RULE, rule });
            } else if (is_word(c)) {
                items.push_back({ element_kind::RULE, parse_name() });
            } else if (c == '<' || c == '!') {
                fail("references to tokens are not served");
            } else {
                return items;
            }
            item     = begin;
            has_item = true;
        }
    }

    std::pair<uint32_t, uint32_t> parse_times() {
        if (take('*')) {
            return { 0, GRAMMAR_UNBOUNDED };
        }
        if (take('+')) {
            return { 1, GRAMMAR_UNBOUNDED };
        }
        if (take('?')) {
            return { 0, 1 };
        }
        ++at; // {
        skip_space(true);
        const uint32_t min = parse_count();
        uint32_t       max = min;
        skip_space(true);
        if (take(',')) {
            skip_space(true);
            max = peek() == '}' ? GRAMMAR_UNBOUNDED : parse_count();
            skip_space(true);
        }
        if (!take('}')) {
            fail("'}' was expected");
        }
        if (max < min) {
            fail("a repetition's maximum is below its minimum");
        }
        return { min, max };
    }

    uint32_t parse_count() {
        uint64_t     value = 0;
        const size_t begin = at;
        while (peek() >= '0' && peek() <= '9' && value <= REPETITION_MAX) {
            value = value * 10 + (uint64_t) (text[at++] - '0');
        }
        if (at == begin) {
            fail("a number was expected");
        }
        if (value > REPETITION_MAX) {
            fail("more than " + std::to_string(REPETITION_MAX) + " repetitions");
        }
        return (uint32_t) value;
    }

    // Everything from `begin` on becomes a rule that is repeated.
    void repeat(sequence & items, size_t begin, uint32_t min, uint32_t max) {
        if (max == 0) {
            items.resize(begin);
            return;
        }
        if (min == 1 && max == 1) {
            return;
        }
        const bool is_rule = items.size() == begin + 1 && items[begin].kind == element_kind::RULE;
        uint32_t   rule    = items[begin].value;
        if (!is_rule) {
            rule = add_rule();
            add_alternative(rule, sequence(items.begin() + (std::ptrdiff_t) begin, items.end()));
            items.resize(begin);
            items.push_back({ element_kind::RULE, rule });
        }
        items[begin] = { element_kind::REPEAT, rule, min, max };
    }

    void parse_literal(sequence & items) {
        ++at;
        while (!take('"')) {
            const uint32_t c = parse_character();
            items.push_back({ element_kind::CHARACTERS, add_class({ false, { { c, c } } }) });
        }
    }

    uint32_t parse_class() {
        ++at;
        character_class made;
        made.is_negated = take('^');
        while (!take(']')) {
            const uint32_t low  = parse_character();
            uint32_t       high = low;
            if (peek() == '-' && at + 1 < text.size() && text[at + 1] != ']') {
                ++at;
                high = parse_character();
            }
            if (high < low) {
                fail("a range's end is before its beginning");
            }
            made.ranges.emplace_back(low, high);
        }
        if (made.ranges.empty() && !made.is_negated) {
            fail("[] matches nothing");
        }
        n_ranges += made.ranges.size();
        if (n_ranges > ELEMENTS_MAX) {
            fail("the grammar is too large");
        }
        merge(made.ranges);
        return add_class(std::move(made));
    }

    // Literals share the class of each of their characters.
    uint32_t add_class(character_class made) {
        const auto & ranges = made.ranges;
        if (!made.is_negated && ranges.size() == 1 && ranges[0].first == ranges[0].second) {
            const auto known = single.find(ranges[0].first);
            if (known != single.end()) {
                return known->second;
            }
            single[ranges[0].first] = (uint32_t) out.classes.size();
        }
        out.classes.push_back(std::move(made));
        return (uint32_t) out.classes.size() - 1;
    }

    uint32_t parse_hex(int digits) {
        uint32_t value = 0;
        for (int i = 0; i < digits; ++i, ++at) {
            const char c = peek();
            if (!isxdigit((unsigned char) c)) {
                fail(std::to_string(digits) + " hex digits were expected");
            }
            value = value << 4 | (uint32_t) (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
        }
        if (value > CODE_POINT_MAX) {
            fail("there is no such character");
        }
        return value;
    }

    uint32_t parse_character() {
        if (at_end()) {
            fail("the grammar ends within a literal or a class");
        }
        if (take('\\')) {
            const char c = peek();
            ++at;
            switch (c) {
            case 'x': return parse_hex(2);
            case 'u': return parse_hex(4);
            case 'U': return parse_hex(8);
            case 't': return '\t';
            case 'r': return '\r';
            case 'n': return '\n';
            case '\\':
            case '"':
            case '[':
            case ']': return (uint32_t) c;
            default: fail(std::string("unknown escape \\") + c);
            }
        }
        const uint8_t lead   = (uint8_t) text[at++];
        const int     n_more = lead < 0x80 ? 0 : lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : -1;
        uint32_t      value  = n_more <= 0 ? lead : lead & (0x3fu >> n_more);
        for (int i = 0; i < n_more; ++i) {
            const uint8_t more = (uint8_t) peek();
            if ((more & 0xc0) != 0x80) {
                fail("the grammar is not UTF-8");
            }
            ++at;
            value = value << 6 | (more & 0x3f);
        }
        if (n_more < 0 || value > CODE_POINT_MAX) {
            fail("the grammar is not UTF-8");
        }
        return value;
    }

    // Rules that may match nothing: those with an alternative that has no other items left.
    std::vector<uint8_t> find_nullable() const {
        std::vector<uint8_t>  nullable(out.rules.size(), 0);
        std::vector<uint32_t> rule_of, missing, todo; // per alternative; rules just found
        std::vector<std::vector<uint32_t>> users(out.rules.size());
        for (uint32_t rule = 0; rule < out.rules.size(); ++rule) {
            for (uint32_t i : out.rules[rule]) {
                uint32_t n_missing = 0;
                for (; out.elements[i].kind != element_kind::END; ++i) {
                    const grammar_element & e = out.elements[i];
                    if (e.kind == element_kind::REPEAT && e.min == 0) {
                        continue;
                    }
                    ++n_missing; // a character never comes off
                    if (e.kind != element_kind::CHARACTERS) {
                        users[e.value].push_back((uint32_t) rule_of.size());
                    }
                }
                rule_of.push_back(rule);
                missing.push_back(n_missing);
                if (n_missing == 0 && !nullable[rule]) {
                    nullable[rule] = 1;
                    todo.push_back(rule);
                }
            }
        }
        while (!todo.empty()) {
            const uint32_t found = todo.back();
            todo.pop_back();
            for (const uint32_t alternative : users[found]) {
                const uint32_t rule = rule_of[alternative];
                if (--missing[alternative] == 0 && !nullable[rule]) {
                    nullable[rule] = 1;
                    todo.push_back(rule);
                }
            }
        }
        return nullable;
    }

    static bool is_nullable(const grammar_element & e, const std::vector<uint8_t> & nullable) {
        return (e.kind == element_kind::REPEAT && e.min == 0) ||
               ((e.kind == element_kind::REPEAT || e.kind == element_kind::RULE) && nullable[e.value]);
    }

    // A rule that reaches itself before it has matched a character would be entered for ever.
    void refuse_left_recursion() const {
        const std::vector<uint8_t> nullable = find_nullable();
        std::vector<std::vector<uint32_t>> first(out.rules.size());
        for (size_t rule = 0; rule < out.rules.size(); ++rule) {
            for (uint32_t i : out.rules[rule]) {
                for (;; ++i) {
                    const grammar_element & e = out.elements[i];
                    if (e.kind == element_kind::RULE || e.kind == element_kind::REPEAT) {
                        first[rule].push_back(e.value);
                    }
                    if (!is_nullable(e, nullable)) {
                        break;
                    }
                }
            }
        }
        enum : uint8_t { NEW, OPEN, DONE };
        std::vector<uint8_t> state(out.rules.size(), NEW);
        for (uint32_t start = 0; start < out.rules.size(); ++start) {
            std::vector<std::pair<uint32_t, size_t>> path;
            if (state[start] == NEW) {
                path.emplace_back(start, 0);
                state[start] = OPEN;
            }
            while (!path.empty()) {
                auto & [rule, next] = path.back();
                if (next == first[rule].size()) {
                    state[rule] = DONE;
                    path.pop_back();
                    continue;
                }
                const uint32_t to = first[rule][next++];
                if (state[to] == OPEN) {
                    throw syntax_error{ "left recursion: rule '" + name_of(to) +
                                        "' reaches itself before it has matched a character" };
                }
                if (state[to] == NEW) {
                    state[to] = OPEN;
                    path.emplace_back(to, 0);
                }
            }
        }
    }

    std::string name_of(uint32_t rule) const {
        for (const auto & named : names) {
            if (named.second == rule) {
                return named.first;
            }
        }
        return "(group)";
    }

    const std::string &             text;
    grammar &                       out;
    size_t                          at       = 0;
    size_t                          n_ranges = 0;
    std::map<std::string, uint32_t> names;
    std::map<uint32_t, uint32_t>    single; // code point -> its class
};

} // namespace

status grammar::compile(const std::string & text, std::shared_ptr<const grammar> & out) {
    if (text.size() > TEXT_MAX) {
        return status::failure(ERR_INVALID_GRAMMAR, "grammar: more than " + std::to_string(TEXT_MAX) + " bytes");
    }
    auto made = std::make_shared<grammar>();
    try {
        parser(text, *made).run();
    } catch (const syntax_error & error) {
        return status::failure(ERR_INVALID_GRAMMAR, "grammar: " + error.what);
    }
    out = std::move(made);
    return status::success();
}

} // namespace nozzle
