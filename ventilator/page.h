/* The page's files, as they lie in ventilator/page: the Makefile makes the table out of them. */
#ifndef VENTILATOR_PAGE_H
#define VENTILATOR_PAGE_H

#include <stddef.h>

struct page_file {
    const char *name;                  /* "index.html" */
    const unsigned char *bytes;
    size_t len;
};
extern const struct page_file page_files[];        /* ends with a name that is NULL */

#endif
