/* SPDX-License-Identifier: Apache-2.0
 *
 * edgeframe.c driven by lines on stdin; one line of answer each on stdout. Numbers are decimal, bytes are hex.
 *
 *     begin SIZE BOOT_ID NOW NAME COUNT  1 or 0; a new device of so many streams, whose queue is exactly SIZE bytes
 *     poll NOW | receive NOW HEX
 *     i2 STREAM TIME FLAGS VALUE…        1 or 0
 *     f4 STREAM TIME FLAGS BITS…         1 or 0
 *     take ROOM                          the bytes
 *     battery VALUE
 *     counts                             drops errors
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgeframe.h"

static const ef_stream streams[] = {
    {"eda", "uS", 12.5f, EF_I2, 0.002f, 0.0f},
    {"bvp", "a.u.", 100.0f, EF_F4, 1.0f, 0.0f},
    {"x", "V", 1.0f, EF_I2, 1.0f, 0.0f},
    {"x", "V", 1.0f, EF_I2, 1.0f, 0.0f},
    {"x", "V", 1.0f, EF_I2, 1.0f, 0.0f},
    {"x", "V", 1.0f, EF_I2, 1.0f, 0.0f},
    {"x", "V", 1.0f, EF_I2, 1.0f, 0.0f},
    {"x", "V", 1.0f, EF_I2, 1.0f, 0.0f},
    {"x", "V", 1.0f, EF_I2, 1.0f, 0.0f},
};

static ef_device device;
static uint8_t *queue;
static char name[256];
static ef_info info = {name, "test 1", streams, 2};

static uint32_t number(void) {
    const char *text = strtok(NULL, " \n");
    return text == NULL ? 0 : (uint32_t)strtoul(text, NULL, 10);
}

static int begin(void) {
    uint32_t size = number(), boot_id = number(), now_us = number();
    const char *text = strtok(NULL, " \n");
    snprintf(name, sizeof name, "%s", text == NULL ? "" : text);
    info.stream_count = (uint8_t)number();
    free(queue);
    queue = malloc(size > 0 ? size : 1);
    return ef_begin(&device, &info, boot_id, queue, (uint16_t)size, now_us);
}

static int send(bool is_f4) {
    static int16_t i2[300];
    static float f4[300];
    uint8_t stream = (uint8_t)number();
    uint32_t at_us = number();
    uint8_t flags = (uint8_t)number(), count = 0;
    for (const char *text; (text = strtok(NULL, " \n")) != NULL; count++) {
        uint32_t bits = (uint32_t)strtoul(text, NULL, 10);
        i2[count] = (int16_t)strtol(text, NULL, 10);
        memcpy(&f4[count], &bits, sizeof bits);
    }
    return is_f4 ? ef_send_f4(&device, stream, at_us, flags, f4, count)
                 : ef_send_i2(&device, stream, at_us, flags, i2, count);
}

static void receive(void) {
    uint32_t now_us = number();
    const char *hex = strtok(NULL, " \n");
    for (unsigned byte; hex != NULL && sscanf(hex, "%2x", &byte) == 1; hex += 2) {
        ef_receive(&device, (uint8_t)byte, now_us);
    }
}

static void take(void) {
    static uint8_t out[65536];
    uint16_t count = ef_take(&device, out, (uint16_t)number());
    for (uint16_t i = 0; i < count; i++) printf("%02x", out[i]);
}

int main(void) {
    static char line[65536];
    while (fgets(line, sizeof line, stdin) != NULL) {
        const char *what = strtok(line, " \n");
        if (what == NULL) continue;
        if (strcmp(what, "begin") == 0) printf("%d", begin());
        if (strcmp(what, "poll") == 0) ef_poll(&device, number());
        if (strcmp(what, "receive") == 0) receive();
        if (strcmp(what, "i2") == 0) printf("%d", send(false));
        if (strcmp(what, "f4") == 0) printf("%d", send(true));
        if (strcmp(what, "take") == 0) take();
        if (strcmp(what, "battery") == 0) ef_set_battery(&device, (float)atof(strtok(NULL, " \n")));
        if (strcmp(what, "counts") == 0) printf("%lu %lu", (unsigned long)device.drops, (unsigned long)device.errors);
        printf("\n");
        fflush(stdout);
    }
    free(queue);
    return 0;
}
