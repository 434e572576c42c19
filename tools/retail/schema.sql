-- The shop. Text keys only, so that rows added in another order give an equal snapshot. Statuses are checked with OR,
-- because IN with more than two values makes SQLite build a table for every row.
CREATE TABLE shop (today TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE stores (store_id TEXT PRIMARY KEY, city TEXT NOT NULL, street TEXT NOT NULL, closes TEXT NOT NULL)
  WITHOUT ROWID;
CREATE TABLE products (product_id TEXT PRIMARY KEY, name TEXT NOT NULL, price_cents INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE variants (
  variant_id TEXT PRIMARY KEY, product_id TEXT NOT NULL, option TEXT NOT NULL, stock INTEGER NOT NULL CHECK (stock >= 0)
) WITHOUT ROWID;
CREATE TABLE coupons (code TEXT PRIMARY KEY, percent INTEGER NOT NULL, expires_on TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE customers (
  customer_id TEXT PRIMARY KEY, first_name TEXT NOT NULL, last_name TEXT NOT NULL, email TEXT NOT NULL,
  zip TEXT NOT NULL, newsletter INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE orders (
  order_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status = 'pending' OR status = 'shipped' OR status = 'delivered' OR status = 'cancelled'),
  placed_on TEXT NOT NULL, delivered_on TEXT, street TEXT NOT NULL, city TEXT NOT NULL, zip TEXT NOT NULL,
  coupon TEXT, cancel_reason TEXT
) WITHOUT ROWID;
CREATE TABLE items (
  item_id TEXT PRIMARY KEY, order_id TEXT NOT NULL, name TEXT NOT NULL, variant_id TEXT, price_cents INTEGER NOT NULL,
  status TEXT NOT NULL CHECK (status = 'sold' OR status = 'refunded' OR status = 'exchanged'), refund_reason TEXT
) WITHOUT ROWID;
CREATE TABLE shipments (
  order_id TEXT PRIMARY KEY, carrier TEXT NOT NULL, progress TEXT NOT NULL, location TEXT NOT NULL,
  expected_on TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE declines (order_id TEXT, reason TEXT, PRIMARY KEY (order_id, reason)) WITHOUT ROWID;
CREATE TABLE transfers (customer_id TEXT, topic TEXT, PRIMARY KEY (customer_id, topic)) WITHOUT ROWID;
