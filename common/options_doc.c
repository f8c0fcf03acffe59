/* Options as people read them: --help, the man pages and the completion, from the parser's tables. */
#include <string.h>

#include "common/clock.h"
#include "common/options_table.h"

#ifndef TARMAC_VERSION
#define TARMAC_VERSION "unreleased"
#endif

#define WIDTH 80
#define HELP_COLUMN 28

/* ---- words of an option ---- */

/* Options without a help sentence are between our own programs: nobody is told of them. */
static const struct option_spec *next_shown(struct option_walk *walk)
{
    const struct option_spec *spec;
    while ((spec = option_next(walk)) && !spec->help)
        ;
    return spec;
}

static const char *value_word(const struct option_spec *spec)
{
    static const char *const words[] = {
        [OPT_STRING] = "TEXT", [OPT_STRINGS] = "TEXT", [OPT_DURATION] = "D", [OPT_SIZE] = "SIZE",
        [OPT_U64] = "N", [OPT_I64] = "N", [OPT_CUSTOM] = "VALUE", [OPT_FLAG] = "", [OPT_NO_FLAG] = "",
    };
    if (spec->value)
        return spec->value;
    return spec->type == OPT_CHOICE ? spec->choices : words[spec->type];
}

/* The default as text, or an empty string when there is none to speak of. */
static void default_text(const struct option_spec *spec, char *out, size_t size)
{
    static const char *const zeros[] = {
        [OPT_DURATION] = "0s", [OPT_SIZE] = "0", [OPT_U64] = "0", [OPT_I64] = "0",
        [OPT_FLAG] = "", [OPT_NO_FLAG] = "", [OPT_STRING] = "", [OPT_STRINGS] = "", [OPT_CUSTOM] = "",
    };
    const char *text = spec->preset;
    if (text && (spec->type == OPT_NO_FLAG || (spec->type == OPT_DURATION && strcmp(text, "-1") == 0)))
        text = "";
    if (!text && spec->given_offset)
        text = "";    /* The program tells "not given" apart: zero isn't what happens then. */
    if (!text && spec->type == OPT_CHOICE) {
        snprintf(out, size, "%.*s", (int)strcspn(spec->choices, "|"), spec->choices);
        return;
    }
    snprintf(out, size, "%s", text ? text : zeros[spec->type]);
}

struct remarks {
    char env[ENV_NAME_SIZE], preset[128];
};

static struct remarks remarks_of(const struct option_spec *spec)
{
    struct remarks r;
    if (!option_env_name(spec, r.env))
        r.env[0] = '\0';
    default_text(spec, r.preset, sizeof r.preset);
    return r;
}

static void synopsis(const char *program, const struct command_spec *command, char *out, size_t size)
{
    snprintf(out, size, "%s%s%s%s%s", program, command->name ? " " : "", command->name ? command->name : "",
             command->arguments ? " " : "", command->arguments ? command->arguments : "");
}

/* ---- --help ---- */

struct wrap {
    FILE *out;
    int column, indent;
};

/* Columns that the first n bytes take: bytes that continue a character take none. */
static int columns(const char *text, size_t n)
{
    int count = 0;
    for (size_t i = 0; i < n; i++)
        count += (text[i] & 0xC0) != 0x80;
    return count;
}

static void wrap_indent(struct wrap *w)
{
    fprintf(w->out, "%*s", w->indent - w->column, "");
    w->column = w->indent;
}

static void wrap_words_n(struct wrap *w, const char *s, size_t len)
{
    const char *end = s + len;
    while (s < end) {
        size_t n = strcspn(s, " \n");
        if (n > (size_t)(end - s))
            n = (size_t)(end - s);
        if (n == 0) {
            s++;
            continue;
        }
        int wide = columns(s, n);
        if (w->column > w->indent && w->column + 1 + wide > WIDTH) {
            fputc('\n', w->out);
            w->column = 0;
        } else if (w->column > w->indent) {
            fputc(' ', w->out);
            w->column++;
        }
        if (w->column < w->indent)
            wrap_indent(w);
        fwrite(s, 1, n, w->out);
        w->column += wide;
        s += n;
    }
}

static void wrap_words(struct wrap *w, const char *text) { wrap_words_n(w, text, strlen(text)); }

static void wrap_end(struct wrap *w)
{
    fputc('\n', w->out);
    w->column = 0;
}

static void help_entry(FILE *out, const char *flag, const char *text, const struct remarks *remarks)
{
    struct wrap w = {.out = out, .indent = HELP_COLUMN};
    char more[256];
    w.column = 2 + columns(flag, strlen(flag));
    fprintf(out, "  %s", flag);
    if (w.column + 2 > HELP_COLUMN)
        wrap_end(&w);
    wrap_indent(&w);
    wrap_words(&w, text);
    if (remarks && *remarks->preset) {
        snprintf(more, sizeof more, "[default: %s]", remarks->preset);
        wrap_words(&w, more);
    }
    if (remarks && *remarks->env) {
        snprintf(more, sizeof more, "[%s]", remarks->env);
        wrap_words(&w, more);
    }
    wrap_end(&w);
}

static void help_option(FILE *out, const struct option_spec *spec)
{
    char flag[160], letter[5] = "    ";
    struct remarks remarks = remarks_of(spec);
    if (spec->letter)
        snprintf(letter, sizeof letter, "-%c, ", spec->letter);
    snprintf(flag, sizeof flag, "%s--%s%s%s%s", letter, spec->name, option_takes_value(spec) ? " " : "",
             value_word(spec), spec->type == OPT_STRINGS ? " ..." : "");
    help_entry(out, flag, spec->help, &remarks);
}

/* Paragraphs are wrapped; a line that begins with a space, an example say, stays as it is. */
static void help_text(FILE *out, const char *text)
{
    struct wrap w = {.out = out};
    while (*text) {
        size_t n = strcspn(text, "\n");
        if (n == 0 || *text == ' ') {
            if (w.column > 0)
                wrap_end(&w);
            fprintf(out, "%.*s\n", (int)n, text);
        } else {
            wrap_words_n(&w, text, n);
        }
        text += n + (text[n] == '\n');
    }
    if (w.column > 0)
        wrap_end(&w);
}

void options_help(const struct command_spec *command, FILE *out)
{
    struct option_walk walk = {.tables = command->tables};
    const struct option_spec *spec;
    char usage[512];
    struct wrap w = {.out = out, .indent = 7};
    synopsis(command->program, command, usage, sizeof usage);
    fputs("Usage:", out);
    w.column = 6;
    wrap_indent(&w);
    wrap_words(&w, usage);
    fputs("\n\n", out);
    help_text(out, command->summary);
    if (command->details) {
        fputc('\n', out);
        help_text(out, command->details);
    }
    fputs("\nOptions:\n", out);
    while ((spec = next_shown(&walk)))
        help_option(out, spec);
    help_entry(out, option_letter_is_free(command, 'h') ? "-h, --help" : "    --help", "Print this help.", NULL);
    help_entry(out, "    --version", "Print the version.", NULL);
    fputs("\nA variable in brackets is used when its flag is not given.\n", out);
}

void options_program_help(const struct program_spec *program, FILE *out)
{
    fprintf(out, "Usage: %s COMMAND [options]\n\n", program->name);
    help_text(out, program->summary);
    fputs("\nCommands:\n", out);
    for (const struct command_spec *const *c = program->commands; *c; c++)
        if ((*c)->name)
            help_entry(out, (*c)->name, (*c)->summary, NULL);
    if (program->details) {
        fputc('\n', out);
        help_text(out, program->details);
    }
    fprintf(out, "\n'%s COMMAND --help' tells all about a command; '%s --version' the version.\n",
            program->name, program->name);
}

/* ---- man pages ---- */

/* Text as roff: nothing in it is a request, and dashes can be copied into a shell. */
static void roff(FILE *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n && text[i]; i++) {
        bool line_begins = i == 0 || text[i - 1] == '\n';
        if (line_begins && (text[i] == '.' || text[i] == '\''))
            fputs("\\&", out);
        if (text[i] == '\\')
            fputs("\\e", out);
        else if (text[i] == '-')
            fputs("\\-", out);
        else
            fputc(text[i], out);
    }
}

static void roff_text(FILE *out, const char *text) { roff(out, text, strlen(text)); }

/* The same rule as help_text: a line that begins with a space is an example. */
static void man_text(FILE *out, const char *text)
{
    bool example = false;
    while (*text) {
        size_t n = strcspn(text, "\n");
        bool indented = n > 0 && *text == ' ';
        if (indented != example)
            fputs(indented ? ".EX\n" : ".EE\n", out);
        example = indented;
        if (n == 0)
            fputs(".PP", out);
        roff(out, text, n);
        fputc('\n', out);
        text += n + (text[n] == '\n');
    }
    if (example)
        fputs(".EE\n", out);
}

static void man_entry(FILE *out, char letter, const char *name, const char *value, bool repeated)
{
    fputs(".TP\n\\fB", out);
    if (letter)
        fprintf(out, "\\-%c\\fR, \\fB", letter);
    fputs("\\-\\-", out);
    roff_text(out, name);
    fputs("\\fR", out);
    if (*value) {
        fputs(" \\fI", out);
        roff_text(out, value);
        fputs("\\fR", out);
    }
    fputs(repeated ? " ...\n" : "\n", out);
}

static void man_options(FILE *out, const struct command_spec *command)
{
    struct option_walk walk = {.tables = command->tables};
    const struct option_spec *spec;
    while ((spec = next_shown(&walk))) {
        struct remarks remarks = remarks_of(spec);
        man_entry(out, spec->letter, spec->name, option_takes_value(spec) ? value_word(spec) : "",
                  spec->type == OPT_STRINGS);
        roff_text(out, spec->help);
        fputc('\n', out);
        if (*remarks.preset) {
            fputs("Default: ", out);
            roff_text(out, remarks.preset);
            fputs(".\n", out);
        }
        if (*remarks.env)
            fprintf(out, "Variable: \\fB%s\\fR.\n", remarks.env);
    }
    man_entry(out, option_letter_is_free(command, 'h') ? 'h' : '\0', "help", "", false);
    fputs("Print the help.\n", out);
    man_entry(out, '\0', "version", "", false);
    fputs("Print the version.\n", out);
}

static void man_head(FILE *out, const char *page, const char *summary)
{
    fprintf(out, ".TH \"%s\" 1 \"\" \"Tarmac %s\" \"Tarmac\"\n.SH NAME\n", page, TARMAC_VERSION);
    roff_text(out, page);
    fputs(" \\- ", out);
    roff_text(out, summary);
    fputs("\n.SH SYNOPSIS\n", out);
}

static void man_synopsis(FILE *out, const char *program, const struct command_spec *command)
{
    char usage[512];
    synopsis(program, command, usage, sizeof usage);
    size_t name = strlen(program) + (command->name ? strlen(command->name) + 1 : 0);
    fputs("\\fB", out);
    roff(out, usage, name);
    fputs("\\fR", out);
    roff_text(out, usage + name);
    fputc('\n', out);
}

static void man_environment(FILE *out)
{
    fputs(".SH ENVIRONMENT\nAn option that names a variable takes its value from there when the flag is not\n"
          "given. An empty variable counts as unset.\n", out);
}

void options_man(const struct command_spec *command, FILE *out)
{
    char page[96];
    snprintf(page, sizeof page, "%s%s%s", command->program, command->name ? "-" : "",
             command->name ? command->name : "");
    man_head(out, page, command->summary);
    man_synopsis(out, command->program, command);
    fputs(".SH DESCRIPTION\n", out);
    man_text(out, command->details ? command->details : command->summary);
    fputs(".SH OPTIONS\n", out);
    man_options(out, command);
    man_environment(out);
}

void options_man_program(const struct program_spec *program, FILE *out)
{
    man_head(out, program->name, program->summary);
    for (const struct command_spec *const *c = program->commands; *c; c++) {
        if (c != program->commands)
            fputs(".br\n", out);
        man_synopsis(out, program->name, *c);
    }
    fputs(".SH DESCRIPTION\n", out);
    man_text(out, program->details ? program->details : program->summary);
    fputs(program->commands[0] && program->commands[0]->name ? ".SH COMMANDS\n" : ".SH OPTIONS\n", out);
    for (const struct command_spec *const *c = program->commands; *c; c++) {
        if ((*c)->name) {
            fprintf(out, ".SS %s\n", (*c)->name);
            man_text(out, (*c)->summary);
            if ((*c)->details) {
                fputs(".PP\n", out);
                man_text(out, (*c)->details);
            }
        }
        man_options(out, *c);
    }
    man_environment(out);
}

/* ---- completion ---- */

static const char *command_word(const struct command_spec *command) { return command->name ? command->name : ""; }

/* What the shell should offer for a value: words, folders, files, or nothing. */
static void completion_value(FILE *out, const struct command_spec *command, const struct option_spec *spec)
{
    const char *word = value_word(spec);
    if (!option_takes_value(spec))
        return;
    fprintf(out, "    '%s --%s'", command_word(command), spec->name);
    if (spec->letter)
        fprintf(out, "|'%s -%c'", command_word(command), spec->letter);
    fputs(") ", out);
    if (spec->type == OPT_CHOICE) {
        fputs("COMPREPLY=($(compgen -W '", out);
        for (const char *c = spec->choices; *c; c++)
            fputc(*c == '|' ? ' ' : *c, out);
        fputs("' -- \"$cur\")); ", out);
    } else if (strcmp(word, "DIR") == 0) {
        fputs("compopt -o filenames; COMPREPLY=($(compgen -d -- \"$cur\")); ", out);
    } else if (strcmp(word, "FILE") == 0) {
        fputs("compopt -o filenames; COMPREPLY=($(compgen -f -- \"$cur\")); ", out);
    }
    fputs("return;;\n", out);
}

static void completion_flags(FILE *out, const struct command_spec *command)
{
    struct option_walk walk = {.tables = command->tables};
    const struct option_spec *spec;
    fprintf(out, "    '%s') flags='", command_word(command));
    while ((spec = next_shown(&walk)))
        fprintf(out, "--%s ", spec->name);
    fputs("--help --version';;\n", out);
}

static void completion_commands(FILE *out, const struct program_spec *program)
{
    fputs("    if [[ -z $command && $cur != -* ]]; then\n        COMPREPLY=($(compgen -W '", out);
    for (const struct command_spec *const *c = program->commands; *c; c++)
        fprintf(out, "%s%s", c == program->commands ? "" : " ", command_word(*c));
    fputs("' -- \"$cur\"))\n        return\n    fi\n", out);
}

void options_completion(const struct program_spec *program, FILE *out)
{
    bool commands = program->commands[0] && program->commands[0]->name;
    fprintf(out, "# bash completion for %s\n_tarmac_%s()\n{\n", program->name, program->name);
    /* bash takes "--flag=value" for three words. */
    fputs("    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= flags= i\n"
          "    COMPREPLY=()\n"
          "    if [[ $cur == = ]]; then cur=\n"
          "    elif [[ $prev == = ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n", out);
    /* What follows a "--" is the user's own command line. */
    fputs("    for ((i = 1; i < COMP_CWORD; i++)); do\n"
          "        if [[ ${COMP_WORDS[i]} == -- ]]; then compopt -o default; return; fi\n", out);
    if (commands)
        fputs("        if [[ -z $command && ${COMP_WORDS[i]} != -* ]]; then command=${COMP_WORDS[i]}; fi\n", out);
    fputs("    done\n", out);
    if (commands)
        completion_commands(out, program);
    fputs("    case \"$command $prev\" in\n", out);
    for (const struct command_spec *const *c = program->commands; *c; c++) {
        struct option_walk walk = {.tables = (*c)->tables};
        const struct option_spec *spec;
        while ((spec = next_shown(&walk)))
            completion_value(out, *c, spec);
    }
    fputs("    esac\n    case \"$command\" in\n", out);
    if (commands)
        fputs("    '') flags='--help --version';;\n", out);
    for (const struct command_spec *const *c = program->commands; *c; c++)
        completion_flags(out, *c);
    fprintf(out, "    esac\n    if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\"))\n"
                 "    else compopt -o default; fi\n}\ncomplete -F _tarmac_%s %s\n", program->name, program->name);
}
