/* The sentence of a refusal. */
#include "common/why.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int why_set(struct why *why, const char *format, ...)
{
    /* Formatted aside, so that the old sentence may be an argument of the new one. */
    char text[sizeof why->text];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0)
        text[0] = '\0';
    if (n >= (int)sizeof text)
        memcpy(text + sizeof text - sizeof "...", "...", sizeof "...");
    memcpy(why->text, text, sizeof text);
    return -1;
}
