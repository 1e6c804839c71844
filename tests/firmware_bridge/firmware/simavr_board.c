/* SPDX-License-Identifier: Apache-2.0
 *
 * An Arduino Uno with a Grove GSR on A0 and a PulseSensor on A1, in simavr, at the pace of a real one; its UART is a
 * pseudo-terminal. The first line on stdout names that, the last one on stderr says how far the simulation fell behind.
 * As on a real one, opening the port starts the board, after the pause of its boot loader.
 *
 *     simavr_board firmware.elf
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <simavr/avr_adc.h>
#include <simavr/avr_uart.h>
#include <simavr/sim_avr.h>
#include <simavr/sim_elf.h>
#include <simavr/sim_irq.h>

enum { CLOCK_HZ = 16000000, SUPPLY_MV = 5000, TURN_CYCLES = CLOCK_HZ / 1000, BOOT_LOADER_US = 500000 };

static volatile sig_atomic_t stopped;
static int line;
static bool ready; /* the UART has room for a byte from the host */
static avr_t *avr;

static void stop(int number) {
    (void)number;
    stopped = 1;
}

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void on_sent(struct avr_irq_t *irq, uint32_t value, void *param) {
    (void)irq, (void)param;
    uint8_t byte = (uint8_t)value;
    if (write(line, &byte, 1) < 0) return; /* nobody reads: a wire forgets */
}

static void on_ready(struct avr_irq_t *irq, uint32_t value, void *param) {
    (void)irq, (void)value, (void)param;
    ready = true;
}

static void on_full(struct avr_irq_t *irq, uint32_t value, void *param) {
    (void)irq, (void)value, (void)param;
    ready = false;
}

/* Volts at the sensors: a slow drift of skin conductance, a pulse of 72 beats a minute. */
static void on_conversion(struct avr_irq_t *irq, uint32_t value, void *param) {
    (void)irq;
    avr_irq_t *adc = param;
    union {
        uint32_t value;
        avr_adc_mux_t mux;
    } asked = {value};
    uint32_t channel = asked.mux.src;
    double t = (double)avr->cycle / CLOCK_HZ;
    double counts = channel == 0 ? 400.5 + 20.0 * sin(t / 10.0) : 512.5 + 200.0 * sin(2.0 * M_PI * 1.2 * t);
    avr_raise_irq(adc + ADC_IRQ_ADC0 + channel, (uint32_t)lround(counts * SUPPLY_MV / 1024.0));
}

static void no_sleep(avr_t *which, avr_cycle_count_t cycles) {
    (void)which, (void)cycles;
}

/* simavr speaks to stdout, which has another use here. */
static void say_nothing(avr_t *which, const int level, const char *format, va_list values) {
    (void)which, (void)level, (void)format, (void)values;
}

static void connect_uart(void) {
    uint32_t flags = 0;
    avr_ioctl(avr, AVR_IOCTL_UART_GET_FLAGS('0'), &flags);
    flags &= ~(uint32_t)(AVR_UART_FLAG_STDIO | AVR_UART_FLAG_POLL_SLEEP);
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
    uint32_t uart = AVR_IOCTL_UART_GETIRQ('0');
    avr_irq_register_notify(avr_io_getirq(avr, uart, UART_IRQ_OUTPUT), on_sent, NULL);
    avr_irq_register_notify(avr_io_getirq(avr, uart, UART_IRQ_OUT_XON), on_ready, NULL);
    avr_irq_register_notify(avr_io_getirq(avr, uart, UART_IRQ_OUT_XOFF), on_full, NULL);
}

static void pass_input(void) {
    avr_irq_t *input = avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_INPUT);
    struct pollfd readable = {line, POLLIN, 0};
    uint8_t byte;
    while (ready && poll(&readable, 1, 0) == 1 && read(line, &byte, 1) == 1) avr_raise_irq(input, byte);
}

/* Every serial library sets a port up when it opens it. before: how it was when nobody knew its name. */
static void wait_for_reader(int far_end, const struct termios *before) {
    struct termios now;
    do {
        usleep(10000);
        tcgetattr(far_end, &now);
    } while (!stopped && now.c_cflag == before->c_cflag);
    usleep(BOOT_LOADER_US);
}

static double run(void) {
    double start_s = now_s(), worst_s = 0.0;
    int state = cpu_Running;
    while (!stopped && state != cpu_Done && state != cpu_Crashed) {
        avr_cycle_count_t until = avr->cycle + TURN_CYCLES;
        while (avr->cycle < until && state != cpu_Done && state != cpu_Crashed) state = avr_run(avr);
        pass_input();
        double ahead_s = (double)avr->cycle / CLOCK_HZ - (now_s() - start_s);
        if (ahead_s > 0.0) usleep((useconds_t)(ahead_s * 1e6));
        if (-ahead_s > worst_s) worst_s = -ahead_s;
    }
    return worst_s;
}

int main(int count, char **arguments) {
    elf_firmware_t firmware = {0};
    avr_global_logger_set(say_nothing);
    if (count != 2 || elf_read_firmware(arguments[1], &firmware) != 0) return 2;
    avr = avr_make_mcu_by_name("atmega328p");
    if (avr == NULL) return 2;
    avr_init(avr);
    avr_load_firmware(avr, &firmware);
    avr->frequency = CLOCK_HZ;
    avr->vcc = avr->avcc = avr->aref = SUPPLY_MV;
    avr->sleep = no_sleep;

    int far_end;
    char name[64];
    struct termios raw = {0};
    cfmakeraw(&raw);
    if (openpty(&line, &far_end, name, &raw, NULL) != 0) return 2;
    fcntl(line, F_SETFL, O_NONBLOCK);
    connect_uart();
    avr_irq_t *adc = avr_io_getirq(avr, AVR_IOCTL_ADC_GETIRQ, 0);
    avr_irq_register_notify(adc + ADC_IRQ_OUT_TRIGGER, on_conversion, adc);
    signal(SIGTERM, stop);
    signal(SIGINT, stop);

    struct termios before;
    tcgetattr(far_end, &before);
    printf("port: %s\n", name);
    fflush(stdout);
    wait_for_reader(far_end, &before);
    fprintf(stderr, "worst lag: %.3f s\n", run());
    return 0;
}
