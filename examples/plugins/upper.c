/* A plugin: its payload in upper case. See docs/handlers.md.
 *
 *     cc -shared -fPIC upper.c $(pkg-config --cflags libtarmac) -o upper.so
 *     echo '{"upper": {"kind": "plugin", "plugin": "'$PWD'/upper.so"}}' >handlers.json
 *     worker --handlers handlers.json */
#include <ctype.h>

#include <tarmac/tarmac.h>

static int run(void *state, tarmac_task *task)
{
    (void)state;
    size_t len;
    const unsigned char *payload = tarmac_task_payload(task, &len);
    for (size_t i = 0; i < len; i++) {
        char c = (char)toupper(payload[i]);
        if (tarmac_err(tarmac_task_context(task)) != TARMAC_OK || tarmac_task_output(task, &c, 1) != TARMAC_OK)
            return 1;
    }
    return 0;
}

static const struct tarmac_plugin plugin = {TARMAC_PLUGIN, .name = "upper", .run = run};

const struct tarmac_plugin *tarmac_plugin(void) { return &plugin; }
