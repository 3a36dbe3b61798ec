// SPDX-License-Identifier: Apache-2.0

// With the argument "c": runtime.goexit > main.main > main.chainA > C: chain_c > burn_c, which runs on the thread's own stack. With "go": the
// same down to main.burn, in a program that the C library starts.
package main

/*
#include <stdint.h>
static volatile uint64_t c_sink;
__attribute__((noinline, noipa)) void burn_c(unsigned long rounds)
{
	uint64_t x = rounds;
	for (unsigned long i = 0; i < rounds; i++) {
		x = x * 6364136223846793005ull + i;
		__asm__ volatile("" : "+r"(x));
	}
	c_sink = x;
}
__attribute__((noinline, noipa)) void chain_c(unsigned long rounds)
{
	burn_c(rounds);
	c_sink++;
}
*/
import "C"

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
)

var sink uint64

//go:noinline
func burn(rounds uint64) {
	x := rounds
	for i := uint64(0); i < rounds; i++ {
		x = x*6364136223846793005 + i
	}
	sink = x
}

//go:noinline
func chainA(rounds uint64, inC bool) {
	if inC {
		C.chain_c(C.ulong(rounds))
	} else {
		burn(rounds)
	}
	sink++
}

func cpu() float64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

func main() {
	seconds, _ := strconv.ParseFloat(os.Args[1], 64)
	begin := cpu()
	for cpu()-begin < seconds {
		chainA(8000000, os.Args[2] == "c")
	}
	fmt.Printf("burned %.6f\n", cpu()-begin)
}
