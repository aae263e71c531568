"""The prime factors of 20 random numbers, with Pool().map.

What to see: a line for each number (the seed is printed; pass it as argument for the same numbers).
"""

import random
import sys

import procession


def prime_factors(number):
    factors, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    if number > 1:
        factors.append(number)
    return factors


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(1_000_000)
    print("seed", seed)
    chosen = random.Random(seed)
    numbers = [chosen.randint(20_000, 100_000_000) for _ in range(20)]
    with procession.Pool() as pool:
        for number, factors in zip(numbers, pool.map(prime_factors, numbers), strict=True):
            print(f"{number} = {' * '.join(map(str, factors))}")


if __name__ == "__main__":
    main()
