// SPDX-License-Identifier: Apache-2.0

// What the recorded cases of Go are made of: chain main|goroutine|system. Build: go build chain.go
package main

import (
	"os"
	"runtime"
	"strings"
)

//go:noinline
func deep(depth int, s []string) int {
	var room [64]byte
	room[depth%64] = byte(len(s))
	if depth == 0 {
		runtime.Breakpoint()
		return int(room[0])
	}
	return deep(depth-1, s) + int(room[depth%64])
}

func main() {
	runtime.GOMAXPROCS(1)
	if len(os.Args) > 1 && os.Args[1] == "goroutine" {
		done := make(chan int)
		go func() { done <- strings.IndexFunc("abc", func(r rune) bool { return deep(12, nil) == int(r) }) }()
		<-done
		return
	}
	deep(12, os.Args)
}
