/* SPDX-License-Identifier: Apache-2.0 */
#include "edgeframe.h"

#include <string.h>

#ifdef __AVR__
#include <avr/pgmspace.h>
#define IN_FLASH PROGMEM
#define FLASH_BYTE(address) pgm_read_byte(address)
#define FLASH_WORD(address) pgm_read_dword(address)
#define TEXT(literal) PSTR(literal)
#else
#define IN_FLASH
#define FLASH_BYTE(address) (*(address))
#define FLASH_WORD(address) (*(address))
#define TEXT(literal) (literal)
#endif

enum { VERSION = 1, DEVICE_STREAM = 255, SEND_HELLO = 1, OVERRUN = 1, HEADER_SIZE = 10, CRC_SIZE = 4, STAMP_SIZE = 8 };
enum { MAX_TEXT = 32 };
enum { HELLO, DATA, TIME, STATUS, COMMAND, ACK };
enum { DONE = 0, UNKNOWN = 1 };

#define HELLO_PERIOD_US 2000000u
#define STATUS_PERIOD_US 1000000u

typedef char float_is_ieee754_binary32[sizeof(float) == 4 ? 1 : -1];

/* zlib's CRC-32, half a byte at a time. */
static const uint32_t crc_table[16] IN_FLASH = {
    0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u, 0x4db26158u, 0x5005713cu,
    0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu, 0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu,
};

static uint32_t crc_update(uint32_t crc, uint8_t byte) {
    crc = FLASH_WORD(&crc_table[(crc ^ byte) & 15u]) ^ (crc >> 4);
    return FLASH_WORD(&crc_table[(crc ^ (uint32_t)(byte >> 4)) & 15u]) ^ (crc >> 4);
}

/* A frame on its way into the queue. Nothing of it is seen from outside until it is closed. */
typedef struct {
    ef_device *ef;
    uint16_t at;      /* where the next byte goes */
    uint16_t code_at; /* COBS: where the distance to the next 00 is to be written */
    uint8_t code;     /* COBS: that distance so far */
    uint8_t payload;  /* bytes of it so far */
    uint32_t crc;
    bool fits;        /* the queue */
    bool too_long;    /* for any frame */
} frame;

static uint16_t after(const ef_device *ef, uint16_t at) { return at + 1u == ef->size ? 0 : (uint16_t)(at + 1u); }

static void put_encoded(frame *f, uint8_t byte) {
    uint16_t next = after(f->ef, f->at);
    if (next == f->ef->tail) f->fits = false;
    if (!f->fits) return;
    f->ef->queue[f->at] = byte;
    f->at = next;
}

static void start_group(frame *f) {
    f->code_at = f->at;
    f->code = 1;
    put_encoded(f, 0);
}

static void end_group(frame *f) {
    if (f->fits) f->ef->queue[f->code_at] = f->code;
}

/* A frame has at most 254 bytes before COBS, so no group is ever longer than COBS allows. */
static void put(frame *f, uint8_t byte) {
    f->crc = crc_update(f->crc, byte);
    if (byte == 0) {
        end_group(f);
        start_group(f);
    } else {
        put_encoded(f, byte);
        f->code++;
    }
}

static void put_u16(frame *f, uint16_t value) {
    put(f, (uint8_t)value);
    put(f, (uint8_t)(value >> 8));
}

static void put_u32(frame *f, uint32_t value) {
    put_u16(f, (uint16_t)value);
    put_u16(f, (uint16_t)(value >> 16));
}

static frame open_frame(ef_device *ef, uint8_t type, uint8_t stream, uint16_t seq, uint32_t t_us, uint8_t flags,
                        uint8_t count) {
    frame f = {ef, ef->head, 0, 0, 0, 0xffffffffu, true, false};
    start_group(&f);
    put(&f, (uint8_t)(VERSION << 4 | type));
    put(&f, stream);
    put_u16(&f, seq);
    put_u32(&f, t_us);
    put(&f, flags);
    put(&f, count);
    return f;
}

static frame open_own_frame(ef_device *ef, uint8_t type) {
    return open_frame(ef, type, DEVICE_STREAM, ef->device_seq, ef->now_us, 0, 0);
}

static bool close_frame(frame *f) {
    put_u32(f, f->crc ^ 0xffffffffu);
    end_group(f);
    put_encoded(f, 0);
    if (!f->fits || f->too_long) return false;
    f->ef->head = f->at;
    return true;
}

static void put_payload(frame *f, uint8_t byte) {
    if (f->payload == EF_MAX_PAYLOAD) f->too_long = true;
    if (f->too_long) return;
    f->payload++;
    put(f, byte);
}

/* CBOR (RFC 8949), as much of it as HELLO and STATUS need. */

enum { CBOR_UINT = 0x00, CBOR_TEXT = 0x60, CBOR_ARRAY = 0x80, CBOR_MAP = 0xa0, CBOR_FLOAT = 0xfa };

static void cbor_big_endian(frame *f, uint32_t value) {
    for (uint8_t shift = 32; shift != 0; shift = (uint8_t)(shift - 8u)) put_payload(f, (uint8_t)(value >> (shift - 8u)));
}

static void cbor_head(frame *f, uint8_t major, uint32_t value) {
    if (value < 24u) {
        put_payload(f, (uint8_t)(major | value));
    } else if (value < 256u) {
        put_payload(f, major | 24u);
        put_payload(f, (uint8_t)value);
    } else {
        put_payload(f, major | 26u);
        cbor_big_endian(f, value);
    }
}

static void cbor_u64(frame *f, uint32_t high, uint32_t low) {
    put_payload(f, CBOR_UINT | 27u);
    cbor_big_endian(f, high);
    cbor_big_endian(f, low);
}

static void cbor_float(frame *f, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_payload(f, CBOR_FLOAT);
    cbor_big_endian(f, bits);
}

static void cbor_text(frame *f, const char *text) {
    size_t length = strlen(text);
    if (length > MAX_TEXT) f->too_long = true;
    cbor_head(f, CBOR_TEXT, (uint32_t)length);
    for (; *text != '\0'; text++) put_payload(f, (uint8_t)*text);
}

static void cbor_key(frame *f, const char *flash_text) {
    uint8_t length = 0;
    while (FLASH_BYTE(flash_text + length) != '\0') length++;
    cbor_head(f, CBOR_TEXT, length);
    for (uint8_t i = 0; i < length; i++) put_payload(f, (uint8_t)FLASH_BYTE(flash_text + i));
}

/* What the device says of itself. These stay due until there is room for them, and use up no seq before. */

static bool close_own_frame(ef_device *ef, frame *f) {
    if (!close_frame(f)) return false;
    ef->device_seq++;
    return true;
}

static bool send_hello(ef_device *ef) {
    frame f = open_own_frame(ef, HELLO);
    cbor_head(&f, CBOR_MAP, 5);
    cbor_key(&f, TEXT("device"));
    cbor_text(&f, ef->info->device);
    cbor_key(&f, TEXT("firmware"));
    cbor_text(&f, ef->info->firmware);
    cbor_key(&f, TEXT("boot_id"));
    cbor_head(&f, CBOR_UINT, ef->boot_id);
    cbor_key(&f, TEXT("uptime_us"));
    cbor_u64(&f, ef->wraps, ef->now_us);
    cbor_key(&f, TEXT("streams"));
    cbor_head(&f, CBOR_ARRAY, ef->info->stream_count);
    for (uint8_t i = 0; i < ef->info->stream_count; i++) {
        const ef_stream *stream = &ef->info->streams[i];
        cbor_head(&f, CBOR_ARRAY, 6);
        cbor_text(&f, stream->name);
        cbor_text(&f, stream->unit);
        cbor_float(&f, stream->rate_hz);
        cbor_key(&f, stream->type == EF_I2 ? TEXT("i2") : TEXT("f4"));
        cbor_float(&f, stream->scale);
        cbor_float(&f, stream->offset);
    }
    return close_own_frame(ef, &f);
}

static bool send_status(ef_device *ef) {
    bool battery_known = ef->battery >= 0.0f;
    frame f = open_own_frame(ef, STATUS);
    cbor_head(&f, CBOR_MAP, battery_known ? 4 : 3);
    cbor_key(&f, TEXT("uptime_s"));
    cbor_head(&f, CBOR_UINT, ef->uptime_s);
    cbor_key(&f, TEXT("drops"));
    cbor_head(&f, CBOR_UINT, ef->drops);
    cbor_key(&f, TEXT("errors"));
    cbor_head(&f, CBOR_UINT, ef->errors);
    if (battery_known) {
        cbor_key(&f, TEXT("battery"));
        cbor_float(&f, ef->battery);
    }
    return close_own_frame(ef, &f);
}

/* The device clock, 64 bits of it in two words. A call with an earlier time than the last one changes nothing. */

static void keep_time(ef_device *ef, uint32_t now_us) {
    uint32_t step_us = now_us - ef->now_us;
    if (step_us >= 0x80000000u) return;
    if (now_us < ef->now_us) ef->wraps++;
    ef->now_us = now_us;
    for (ef->second_us += step_us; ef->second_us >= 1000000u; ef->second_us -= 1000000u) ef->uptime_s++;
}

static bool due(const ef_device *ef, uint32_t at_us) { return ef->now_us - at_us < 0x80000000u; }

/* The next time in a row of them; one that is past already is left out. */
static uint32_t next_time(const ef_device *ef, uint32_t at_us, uint32_t period_us) {
    return due(ef, at_us + period_us) ? ef->now_us + period_us : at_us + period_us;
}

bool ef_begin(ef_device *ef, const ef_info *info, uint32_t boot_id, uint8_t *queue, uint16_t queue_size,
              uint32_t now_us) {
    memset(ef, 0, sizeof *ef);
    ef->info = info;
    ef->boot_id = boot_id;
    ef->queue = queue;
    ef->size = queue_size;
    ef->now_us = now_us;
    ef->uptime_s = now_us / 1000000u;
    ef->second_us = now_us % 1000000u;
    ef->next_hello_us = now_us + HELLO_PERIOD_US;
    ef->next_status_us = now_us + STATUS_PERIOD_US;
    ef->battery = -1.0f;
    if (queue_size < EF_QUEUE_MIN || info->stream_count == 0 || info->stream_count > EF_MAX_STREAMS) return false;
    ef->queue[ef->head++] = 0; /* ends what was on the line when the board restarted */
    return send_hello(ef);
}

void ef_poll(ef_device *ef, uint32_t now_us) {
    keep_time(ef, now_us);
    if (due(ef, ef->next_hello_us) && send_hello(ef)) {
        ef->next_hello_us = next_time(ef, ef->next_hello_us, HELLO_PERIOD_US);
    }
    if (due(ef, ef->next_status_us) && send_status(ef)) {
        ef->next_status_us = next_time(ef, ef->next_status_us, STATUS_PERIOD_US);
    }
}

void ef_set_battery(ef_device *ef, float fraction) { ef->battery = fraction; }

static bool sendable(const ef_device *ef, uint8_t stream, ef_sample_type type, uint8_t count) {
    uint8_t most = type == EF_I2 ? EF_MAX_PAYLOAD / 2u : EF_MAX_PAYLOAD / 4u;
    return stream < ef->info->stream_count && ef->info->streams[stream].type == type && count > 0 && count <= most;
}

static frame open_data(ef_device *ef, uint8_t stream, uint32_t first_us, uint8_t flags, uint8_t count) {
    flags &= EF_LEAD_OFF | EF_CLIPPED | EF_RANGE_CHANGED;
    if (ef->overrun & 1u << stream) flags |= OVERRUN;
    return open_frame(ef, DATA, stream, ef->seq[stream]++, first_us, flags, count);
}

static bool close_data(ef_device *ef, frame *f, uint8_t stream) {
    bool sent = close_frame(f);
    uint8_t bit = (uint8_t)(1u << stream);
    if (sent) {
        ef->overrun &= (uint8_t)~bit;
    } else {
        ef->overrun |= bit;
        ef->drops++;
    }
    return sent;
}

bool ef_send_i2(ef_device *ef, uint8_t stream, uint32_t first_us, uint8_t flags, const int16_t *samples,
                uint8_t count) {
    if (!sendable(ef, stream, EF_I2, count)) return false;
    frame f = open_data(ef, stream, first_us, flags, count);
    for (uint8_t i = 0; i < count; i++) put_u16(&f, (uint16_t)samples[i]);
    return close_data(ef, &f, stream);
}

bool ef_send_f4(ef_device *ef, uint8_t stream, uint32_t first_us, uint8_t flags, const float *samples,
                uint8_t count) {
    if (!sendable(ef, stream, EF_F4, count)) return false;
    frame f = open_data(ef, stream, first_us, flags, count);
    for (uint8_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &samples[i], sizeof bits);
        put_u32(&f, bits);
    }
    return close_data(ef, &f, stream);
}

uint16_t ef_take(ef_device *ef, uint8_t *out, uint16_t room) {
    uint16_t taken = 0;
    for (; taken < room && ef->tail != ef->head; taken++) {
        out[taken] = ef->queue[ef->tail];
        ef->tail = after(ef, ef->tail);
    }
    return taken;
}

/* What the host says. Its frames are short, and what is longer than `received` is none. */

static void acknowledge(ef_device *ef, uint16_t id, uint8_t result) {
    frame f = open_frame(ef, ACK, DEVICE_STREAM, id, ef->now_us, 0, 0);
    put(&f, result);
    close_frame(&f);
}

static void reply_time(ef_device *ef, const uint8_t *stamp) {
    frame f = open_own_frame(ef, TIME);
    for (uint8_t i = 0; i < STAMP_SIZE; i++) put(&f, stamp[i]);
    put_u32(&f, ef->now_us);
    put_u32(&f, ef->wraps);
    close_frame(&f);
    ef->device_seq++;
}

/* Undo COBS in place; the length that is left, 0 where it was none. */
static uint8_t cobs_decode(uint8_t *bytes, uint8_t count) {
    uint8_t in = 0, out = 0;
    while (in < count) {
        uint8_t code = bytes[in++];
        if (code - 1 > count - in) return 0;
        for (; code > 1; code--) bytes[out++] = bytes[in++];
        if (in < count) bytes[out++] = 0;
    }
    return out;
}

static bool sound(const uint8_t *block, uint8_t size) {
    if (size < HEADER_SIZE + CRC_SIZE) return false;
    /* Over a block with its CRC behind it, CRC-32 always leaves this. */
    uint32_t crc = 0xffffffffu;
    for (uint8_t i = 0; i < size; i++) crc = crc_update(crc, block[i]);
    return crc == 0xdebb20e3u && block[0] >> 4 == VERSION;
}

static void answer(ef_device *ef, const uint8_t *block, uint8_t size) {
    uint8_t type = block[0] & 15u;
    const uint8_t *payload = block + HEADER_SIZE;
    uint8_t length = (uint8_t)(size - HEADER_SIZE - CRC_SIZE);
    if (type == COMMAND) {
        bool known = length == 1 && payload[0] == SEND_HELLO;
        acknowledge(ef, (uint16_t)(block[2] | block[3] << 8), known ? DONE : UNKNOWN);
        if (known) ef->next_hello_us = ef->now_us;
        ef_poll(ef, ef->now_us);
    } else if (type == TIME && length == STAMP_SIZE) {
        reply_time(ef, payload);
    }
}

void ef_receive(ef_device *ef, uint8_t byte, uint32_t now_us) {
    keep_time(ef, now_us);
    if (byte != 0) {
        if (ef->received_count < sizeof ef->received) ef->received[ef->received_count] = byte;
        if (ef->received_count <= sizeof ef->received) ef->received_count++;
        return;
    }
    uint8_t count = ef->received_count;
    ef->received_count = 0;
    if (count == 0) return;
    uint8_t size = count > sizeof ef->received ? 0 : cobs_decode(ef->received, count);
    if (sound(ef->received, size)) {
        answer(ef, ef->received, size);
    } else {
        ef->errors++;
    }
}
