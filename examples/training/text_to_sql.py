"""Question -> one SQL statement over a fixed schema that the model has learnt (see SCHEMA)."""

from slots import CITIES, FIRST_NAMES, PRODUCTS, pick

PREFIX = "Write the SQL query: "

SCHEMA = """\
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, city TEXT, signup_year INTEGER);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, product TEXT, amount INTEGER, status TEXT, year INTEGER);
"""

STATUSES = ["paid", "open", "shipped", "cancelled"]
JOIN = "FROM orders o JOIN customers c ON c.id = o.customer_id"

TEMPLATES = [
    (["how many customers live in {city}?", "count the customers from {city}", "number of customers in {city}?"],
     "SELECT COUNT(*) FROM customers WHERE city = '{city}';"),
    (["list the names of customers in {city}", "who are our customers in {city}?", "which customers live in {city}?"],
     "SELECT name FROM customers WHERE city = '{city}';"),
    (["how many orders are {status}?", "count all {status} orders", "number of {status} orders?"],
     "SELECT COUNT(*) FROM orders WHERE status = '{status}';"),
    (["what is the total amount of {status} orders?", "sum of the amounts of {status} orders", "how much are all {status} orders worth?"],
     "SELECT SUM(amount) FROM orders WHERE status = '{status}';"),
    (["what is the average order amount in {year}?", "average amount of orders in {year}", "mean order amount for {year}?"],
     "SELECT AVG(amount) FROM orders WHERE year = {year};"),
    (["how many orders did {name} place?", "count the orders of {name}", "number of orders by {name}?"],
     f"SELECT COUNT(*) {JOIN} WHERE c.name = '{{name}}';"),
    (["what did {name} order?", "list the products that {name} ordered", "which products did {name} buy?"],
     f"SELECT o.product {JOIN} WHERE c.name = '{{name}}';"),
    (["total amount of orders from {city}?", "how much did customers in {city} spend?", "sum of order amounts for {city}"],
     f"SELECT SUM(o.amount) {JOIN} WHERE c.city = '{{city}}';"),
    (["which orders cost more than {amount}?", "list order ids above {amount}", "show ids of orders over {amount}"],
     "SELECT id FROM orders WHERE amount > {amount};"),
    (["how many {product} orders were there in {year}?", "count the {product} orders of {year}", "number of {product} orders in {year}?"],
     "SELECT COUNT(*) FROM orders WHERE product = '{product}' AND year = {year};"),
    (["what is the most expensive {product} order?", "highest amount of a {product} order?", "maximum amount for {product} orders"],
     "SELECT MAX(amount) FROM orders WHERE product = '{product}';"),
    (["which customers signed up after {year}?", "names of customers who signed up later than {year}", "list customers that joined after {year}"],
     "SELECT name FROM customers WHERE signup_year > {year};"),
    (["how many orders per status?", "count orders grouped by status", "number of orders for each status?"],
     "SELECT status, COUNT(*) FROM orders GROUP BY status;"),
    (["how many customers per city?", "count customers grouped by city", "number of customers for each city?"],
     "SELECT city, COUNT(*) FROM customers GROUP BY city;"),
    (["list the {count} largest orders", "ids of the top {count} orders by amount", "show the {count} most expensive orders"],
     "SELECT id FROM orders ORDER BY amount DESC LIMIT {count};"),
    (["who ordered a {product}?", "names of customers who bought a {product}", "which customers ordered a {product}?"],
     f"SELECT c.name {JOIN} WHERE o.product = '{{product}}';"),
]


def make_case(rng, split):
    """One (prompt, expected) pair; `split` chooses the slot values that may appear."""
    questions, sql = rng.choice(TEMPLATES)
    values = {
        "city": pick(rng, CITIES, split),
        "name": pick(rng, FIRST_NAMES, split),
        "product": pick(rng, PRODUCTS, split),
        "status": rng.choice(STATUSES),
        "year": rng.randrange(2015, 2026),
        "amount": rng.randrange(2, 40) * 25 if split == "train" else rng.randrange(2, 90) * 10 + 5,
        "count": rng.randrange(2, 12),
    }
    return PREFIX + rng.choice(questions).format(**values), sql.format(**values)


def fixture(rng):
    """SQL text of a small database on which answers are executed."""
    rows = [SCHEMA]
    names = list(FIRST_NAMES)
    for i, name in enumerate(names, 1):
        rows.append(f"INSERT INTO customers VALUES ({i}, '{name}', '{rng.choice(CITIES)}', {rng.randrange(2014, 2026)});\n")
    for i in range(1, 301):
        rows.append(
            f"INSERT INTO orders VALUES ({i}, {rng.randrange(1, len(names) + 1)}, '{rng.choice(PRODUCTS)}', "
            f"{rng.randrange(10, 1000)}, '{rng.choice(STATUSES)}', {rng.randrange(2015, 2026)});\n"
        )
    return "".join(rows)
