-- A day in a small shop, for demos. Run it with a tenant's own login, at version 1.0 or 1.1, under any
-- isolation; running it twice changes nothing the second time.
--
--   psql "$(kubectl -n shop get secret acme-main-db -o jsonpath='{.data.uri}' | base64 -d)" -f sample.sql
--
-- No statement names a tenant: tenant_id comes from the login.

INSERT INTO settings (key, value) VALUES
  ('shop.currency', '"EUR"'),
  ('shop.vat_percent', '19')
ON CONFLICT DO NOTHING;

INSERT INTO users (email, name, role) VALUES
  ('olivia@shop.example', 'Olivia Owner', 'owner'),
  ('sam@shop.example', 'Sam Staff', 'staff')
ON CONFLICT DO NOTHING;

INSERT INTO role_permissions (role, permission) VALUES
  ('owner', 'shop:*'), ('staff', 'orders:write'), ('staff', 'products:read')
ON CONFLICT DO NOTHING;

INSERT INTO customers (email, name) VALUES
  ('ada@customer.example', 'Ada Lovelace'),
  ('alan@customer.example', 'Alan Turing')
ON CONFLICT DO NOTHING;

INSERT INTO addresses (customer_id, recipient, street, postal_code, city, country, is_default)
  SELECT id, name, '12 St James''s Square', 'SW1Y 4JH', 'London', 'GB', true FROM customers
ON CONFLICT DO NOTHING;

INSERT INTO categories (name) VALUES ('Tools'), ('Books') ON CONFLICT DO NOTHING;

INSERT INTO products (name, description, status)
  SELECT * FROM (VALUES
    ('Anvil', 'Drop-forged, 50 kg', 'active'::product_status),
    ('Notes on the Analytical Engine', 'First edition', 'active'),
    ('Jet-propelled skates', 'Not yet approved', 'draft')
  ) AS new (name, description, status)
  WHERE NOT EXISTS (SELECT FROM products AS p WHERE p.name = new.name);

INSERT INTO product_categories (product_id, category_id)
  SELECT p.id, c.id FROM products AS p
  JOIN categories AS c ON c.name = CASE WHEN p.name LIKE 'Notes%' THEN 'Books' ELSE 'Tools' END
ON CONFLICT DO NOTHING;

INSERT INTO variants (product_id, sku, price_cents, weight_grams)
  SELECT p.id, new.sku, new.price_cents, new.weight_grams
  FROM (VALUES ('Anvil', 'ANVIL-50', 12900, 50000), ('Notes on the Analytical Engine', 'NOTES-1', 4250, 800))
    AS new (product, sku, price_cents, weight_grams)
  JOIN products AS p ON p.name = new.product
ON CONFLICT DO NOTHING;

INSERT INTO warehouses (code, name, country) VALUES ('LON', 'London Docks', 'GB') ON CONFLICT DO NOTHING;

INSERT INTO inventory (variant_id, warehouse_id, on_hand)
  SELECT v.id, w.id, 20 FROM variants AS v CROSS JOIN warehouses AS w
ON CONFLICT DO NOTHING;

INSERT INTO carts (customer_id)
  SELECT c.id FROM customers AS c
  WHERE c.email = 'ada@customer.example' AND NOT EXISTS (SELECT FROM orders AS o WHERE o.customer_id = c.id)
ON CONFLICT DO NOTHING;

INSERT INTO cart_items (cart_id, variant_id, quantity)
  SELECT c.id, v.id, 2 FROM carts AS c CROSS JOIN variants AS v WHERE c.status = 'open'
ON CONFLICT DO NOTHING;

SELECT place_order(id) AS order_id FROM carts WHERE status = 'open';

INSERT INTO payments (order_id, provider, provider_ref, status, amount_cents)
  SELECT id, 'card', 'ch_' || number, 'captured', total_cents FROM orders WHERE status = 'pending'
ON CONFLICT DO NOTHING;

UPDATE orders SET status = 'paid' WHERE status = 'pending';

INSERT INTO invoices (order_id, paid_on) SELECT id, current_date FROM orders ON CONFLICT DO NOTHING;

INSERT INTO reviews (product_id, customer_id, rating, body, approved)
  SELECT p.id, c.id, 5, 'Heavy, as promised.', true
  FROM products AS p CROSS JOIN customers AS c
  WHERE p.name = 'Anvil' AND c.email = 'ada@customer.example'
ON CONFLICT DO NOTHING;

SELECT number, customer, status, items, total_cents, paid_cents FROM order_summary ORDER BY number;
