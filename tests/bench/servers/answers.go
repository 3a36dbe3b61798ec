// SPDX-License-Identifier: Apache-2.0

// Answers every HTTP request on the port of its first argument after about two milliseconds.
package main

import (
	"fmt"
	"net/http"
	"os"
	"time"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(2 * time.Millisecond)
		fmt.Fprintln(w, "answer")
	})
	panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
