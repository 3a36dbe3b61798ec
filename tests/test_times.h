/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_TEST_TIMES_H
#define TESTS_TEST_TIMES_H

/* How often a test of random input tries. It has one thread: ThreadSanitizer finds nothing in it, and makes it slow. */
#ifdef __SANITIZE_THREAD__
#define TEST_TIMES(n) ((n) / 40)
#else
#define TEST_TIMES(n) (n)
#endif

#endif
