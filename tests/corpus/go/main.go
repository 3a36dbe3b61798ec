// SPDX-License-Identifier: Apache-2.0

// runtime.goexit > main.main.func1, a goroutine > main.chainA > main.Link.chainB, a method > main.burn.
package main

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

type Link struct{ extra uint64 }

//go:noinline
func (l Link) chainB(rounds uint64) {
	burn(rounds + l.extra)
	sink++
}

//go:noinline
func chainA(rounds uint64) {
	Link{1}.chainB(rounds)
	sink++
}

func cpu() float64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

func main() {
	seconds := 1.0
	if len(os.Args) > 1 {
		seconds, _ = strconv.ParseFloat(os.Args[1], 64)
	}
	done := make(chan float64)
	go func() {
		begin := cpu()
		for cpu()-begin < seconds {
			chainA(8000000)
		}
		done <- cpu() - begin
	}()
	fmt.Printf("burned %.6f\n", <-done)
}
