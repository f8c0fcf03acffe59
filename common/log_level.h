/* How much a line matters: apart from log.h, because the pure cores say it too without logging themselves. */
#ifndef COMMON_LOG_LEVEL_H
#define COMMON_LOG_LEVEL_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

#endif
