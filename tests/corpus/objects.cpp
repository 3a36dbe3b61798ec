/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main > corpus::catcher > corpus::thrower(int) | an exception on its way | corpus::Guard::~Guard() > corpus::Engine<int>::run<a lambda> >
 * the lambda > corpus::burn. Half of the calls come by the destructor of a frame that an exception leaves, half by a catch clause.
 */
#include <stdexcept>

#include "corpus.h"

namespace corpus
{
static noinline void burn(unsigned long rounds)
{
	corpus_work(rounds);
}

template <typename T> struct Engine {
	T value;
	template <typename F> noinline T run(F work)
	{
		work(value);
		return value + 1;
	}
};

static noinline void work_by_lambda(int number)
{
	Engine<int> engine{ number };

	corpus_sink += engine.run([](int n) noinline {
		burn(CORPUS_ROUNDS + n);
		corpus_sink++;
	});
}

struct Guard {
	int number;
	noinline ~Guard()
	{
		work_by_lambda(number);
		corpus_sink++;
	}
};

static noinline void thrower(int number)
{
	Guard guard{ number };

	if (number >= 0)
		throw std::runtime_error("on its way");
}

static noinline void catcher(int number)
{
	try {
		thrower(number);
	} catch (const std::exception &) {
		work_by_lambda(number + 1);
	}
	corpus_sink++;
}
} // namespace corpus

int main(int argc, char **argv)
{
	double seconds = corpus_seconds(argc, argv), begin = corpus_cpu();

	do
		corpus::catcher(argc);
	while (corpus_cpu() - begin < seconds);
	return corpus_end(begin);
}
