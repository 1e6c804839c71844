/* SPDX-License-Identifier: Apache-2.0
 *
 * edgeframe v1 for firmware: HELLO, DATA, TIME, STATUS and ACK over any byte line. Plain C99, no heap, no stdio.
 *
 *     static uint8_t queue[512];
 *     static const ef_stream streams[] = {{"eda", "uS", 12.5f, EF_I2, 0.002f, 0.0f}};
 *     static const ef_info info = {"my board", "1.0", streams, 1};
 *     static ef_device ef;
 *
 *     ef_begin(&ef, &info, boot_id, queue, sizeof queue, now_us);
 *     for (;;) {
 *         ef_poll(&ef, now_us);                              // HELLO and STATUS, when they are due
 *         ef_send_i2(&ef, 0, first_us, 0, samples, count);   // when samples are there
 *         while (the line has a byte) ef_receive(&ef, byte, now_us);
 *         send(chunk, ef_take(&ef, chunk, room in the line));
 *     }
 *
 * Nothing here blocks. A frame for which the queue has no room is dropped whole: its seq is used up, the overrun flag
 * stands in the next DATA frame of its stream, and STATUS counts it. Call everything from one context: sample in an
 * interrupt if you like, but send from the loop.
 */
#ifndef EDGEFRAME_H
#define EDGEFRAME_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EF_MAX_PAYLOAD 240u /* bytes of samples in a frame: 120 of EF_I2, 60 of EF_F4 */
#define EF_MAX_STREAMS 8u
#define EF_QUEUE_MIN 260u   /* smallest queue: one frame of full length. 512 holds about 0.5 s of 128 Hz PPG and EDA */
#define EF_MISSING (-32768) /* the raw value of an EF_I2 sample that could not be taken; in EF_F4 it is NAN */

/* What is true of the samples in a DATA frame. The overrun flag (1) is the library's own. */
enum { EF_LEAD_OFF = 2, EF_CLIPPED = 4, EF_RANGE_CHANGED = 8 };

typedef enum { EF_I2, EF_F4 } ef_sample_type;

/* One signal: value = raw * scale + offset, in `unit`. Names and units that edgepain knows stand in edgeframe.md. */
typedef struct {
    const char *name;
    const char *unit;
    float rate_hz;
    ef_sample_type type;
    float scale; /* not 0 */
    float offset;
} ef_stream;

/* What HELLO says; texts of at most 32 bytes. Must outlive the ef_device. */
typedef struct {
    const char *device;
    const char *firmware;
    const ef_stream *streams;
    uint8_t stream_count;
} ef_info;

/* The library's state. Read drops and errors if you like; the rest is its own. */
typedef struct {
    const ef_info *info;
    uint32_t boot_id;
    uint8_t *queue;
    uint16_t size, head, tail; /* written at head, taken at tail, empty where they meet */
    uint32_t now_us, wraps;    /* device clock: low and high word */
    uint32_t uptime_s, second_us;
    uint32_t next_hello_us, next_status_us;
    uint32_t drops;  /* DATA frames dropped since the start */
    uint32_t errors; /* damaged frames from the host */
    float battery;   /* 0 to 1; negative: unknown */
    uint16_t seq[EF_MAX_STREAMS], device_seq;
    uint8_t overrun; /* a bit for each stream: flag its next frame */
    uint8_t received[32], received_count;
} ef_device;

/* Start, with HELLO as the first frame. boot_id: another one at every start of the board. now_us: microseconds since
 * it started, as for all calls; it wraps after 71.6 minutes.
 * False where the queue is smaller than EF_QUEUE_MIN, there are no streams or more than EF_MAX_STREAMS, or the
 * description does not fit one frame: fewer streams, shorter names. */
bool ef_begin(ef_device *ef, const ef_info *info, uint32_t boot_id, uint8_t *queue, uint16_t queue_size,
              uint32_t now_us);

/* Queue HELLO every 2 s and STATUS every second. Call it often: at least once a second. */
void ef_poll(ef_device *ef, uint32_t now_us);

/* Queue `count` samples of a stream, the first one taken at first_us. flags: EF_LEAD_OFF and so on, or 0.
 * True where the frame is in the queue. False where it was dropped, or where the stream, its sample type or the count
 * (1 to 120 of i2, 1 to 60 of f4) is wrong, which changes nothing. */
bool ef_send_i2(ef_device *ef, uint8_t stream, uint32_t first_us, uint8_t flags, const int16_t *samples,
                uint8_t count);
bool ef_send_f4(ef_device *ef, uint8_t stream, uint32_t first_us, uint8_t flags, const float *samples,
                uint8_t count);

/* Take in one byte from the host, and queue the answer to what it completes. */
void ef_receive(ef_device *ef, uint8_t byte, uint32_t now_us);

/* Move up to `room` queued bytes to `out`, for the line; how many. */
uint16_t ef_take(ef_device *ef, uint8_t *out, uint16_t room);

/* What STATUS says of the battery: 0 empty, 1 full. Unless called, STATUS does not mention it. */
void ef_set_battery(ef_device *ef, float fraction);

#ifdef __cplusplus
}
#endif

#endif
