/* CRC-32C against the vectors of RFC 3720 B.4, and the instruction against the table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/crc32c.h"

typedef uint32_t (*crc_function)(uint32_t crc, const void *data, size_t len);
static const crc_function both[] = {crc32c, crc32c_by_table};

static void known_vectors(void **state)
{
    (void)state;
    uint8_t zeros[32] = {0}, ones[32], rising[32];
    memset(ones, 0xFF, sizeof ones);
    for (uint8_t i = 0; i < 32; i++)
        rising[i] = i;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(both[i](0, zeros, 32), 0x8A9136AA);
        assert_int_equal(both[i](0, ones, 32), 0x62A8AB43);
        assert_int_equal(both[i](0, rising, 32), 0x46DD794E);
        assert_int_equal(both[i](0, "123456789", 9), 0xE3069283);
        assert_int_equal(both[i](0, "", 0), 0);
    }
}

static void every_length_and_place_agrees(void **state)
{
    (void)state;
    uint8_t bytes[80];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 167 + 13);
    for (size_t from = 0; from < 9; from++)
        for (size_t len = 0; from + len <= sizeof bytes; len++)
            assert_int_equal(crc32c(0, bytes + from, len), crc32c_by_table(0, bytes + from, len));
}

/* Long enough for more than one at once, and all around it. */
static void long_ones_agree(void **state)
{
    (void)state;
    static uint8_t bytes[60000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * i * 31 + i / 7);
    for (size_t len = 12280; len < 12300; len++)
        assert_int_equal(crc32c(7, bytes + 3, len), crc32c_by_table(7, bytes + 3, len));
    for (size_t len = 1; len < sizeof bytes; len += 997)
        assert_int_equal(crc32c(0, bytes, len), crc32c_by_table(0, bytes, len));
}

static void goes_on_where_it_stopped(void **state)
{
    (void)state;
    static const char text[] = "cleared for take-off, runway two seven";
    uint32_t whole = crc32c(0, text, sizeof text);
    for (size_t cut = 0; cut <= sizeof text; cut++)
        assert_int_equal(crc32c(crc32c(0, text, cut), text + cut, sizeof text - cut), whole);
}

static void one_bit_is_seen(void **state)
{
    (void)state;
    uint8_t bytes[64] = {0};
    uint32_t before = crc32c(0, bytes, sizeof bytes);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(crc32c(0, bytes, sizeof bytes), before);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_vectors),
        cmocka_unit_test(every_length_and_place_agrees),
        cmocka_unit_test(long_ones_agree),
        cmocka_unit_test(goes_on_where_it_stopped),
        cmocka_unit_test(one_bit_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
