// SPDX-License-Identifier: Apache-2.0
// The standard library's containers and algorithms: templates, lambdas, local classes, constructors, all inlined many levels deep.
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

struct shape {
	virtual ~shape() = default;
	virtual double area() const = 0;
};

struct circle : shape {
	double r;
	explicit circle(double r) : r(r) {}
	double area() const override { return 3.14 * r * r; }
};

template <class T> static T sum(const std::vector<T> &values)
{
	T total{};
	std::for_each(values.begin(), values.end(), [&](const T &value) { total += value; });
	return total;
}

int main(int argc, char **argv)
{
	std::vector<double> numbers;
	std::map<std::string, int> sorted;
	std::unordered_map<std::string, std::vector<int>> hashed;

	for (int i = 0; i < 100 * argc; i++) {
		numbers.push_back(i * 1.5);
		sorted[std::to_string(i)] = i;
		hashed["k" + std::to_string(i % 7)].push_back(i);
	}
	std::sort(numbers.begin(), numbers.end(), std::greater<>());
	std::unique_ptr<shape> shape = std::make_unique<circle>(argc);
	std::function<int(int)> twice = [&](int x) {
		struct local {
			int y;
			int doubled() { return y * 2 + (int)sorted.size(); }
			std::map<std::string, int> &sorted;
		} l{ x, sorted };
		return l.doubled();
	};
	for (auto &[key, list] : hashed)
		std::cout << key << list.size() << argv[0] << "\n";
	std::cout << sum(numbers) << shape->area() << twice(argc) << "\n";
	return 0;
}
