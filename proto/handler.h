/* The messages of handler.proto; the only header that includes their generated code. */
#ifndef PROTO_HANDLER_H
#define PROTO_HANDLER_H

#include "handler.pb-c.h"

#endif
