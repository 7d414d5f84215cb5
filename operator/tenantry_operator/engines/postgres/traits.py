"""The query for what makes schemas alike: see :mod:`likeness`, which fills in the names in braces.

An object has a plain text, which says the same in every schema, and a numbered one, which names others by number.
Whatever the definitions of a schema are made of (:mod:`objects`) has to be in one of them.
"""

from __future__ import annotations

from psycopg import sql

TRAITS = sql.SQL(r"""
WITH space AS MATERIALIZED (
    SELECT n.oid, n.nspname, pg_catalog.quote_ident(n.nspname) AS quoted, o.owner, g.oid AS app
    FROM pg_catalog.pg_namespace n
    JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
    CROSS JOIN LATERAL (SELECT CASE n.nspowner WHEN 'pg_database_owner'::pg_catalog.regrole THEN d.datdba
                               ELSE n.nspowner END AS owner) o
    JOIN pg_catalog.pg_roles r ON r.oid = o.owner
    LEFT JOIN pg_catalog.pg_roles g ON g.rolname::text = r.rolname::text || {group}
    WHERE n.nspname = ANY (%(names)s::text[])
), relation AS MATERIALIZED (
    SELECT s.oid AS space, c.oid, c.relname, c.relkind, c.relpersistence, c.relam, c.relispartition,
           c.relrowsecurity, c.relforcerowsecurity, c.reltype, c.reloftype, c.reloptions, c.relpartbound
    FROM {relations} WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S', 'c')
), kind AS MATERIALIZED (
    SELECT b.space, t.* FROM (
        SELECT space, reltype AS oid FROM relation WHERE reltype <> 0
        UNION ALL
        SELECT s.oid, t.oid FROM {types}
        WHERE t.typtype IN ('e', 'd', 'r', 'm', 'p') OR (t.typtype = 'b' AND t.typcategory <> 'A')
    ) b JOIN pg_catalog.pg_type e ON e.oid = b.oid CROSS JOIN LATERAL (VALUES (e.oid), (e.typarray)) AS v (oid)
    JOIN pg_catalog.pg_type t ON t.oid = v.oid
), routine AS MATERIALIZED (
    SELECT s.oid AS space, s.quoted, p.* FROM {routines}
), word AS MATERIALIZED (
    SELECT space, oid::text AS number, pg_catalog.format('relation %%I', relname) AS word FROM relation
    UNION ALL SELECT space, oid::text, pg_catalog.format('type %%I', typname) FROM kind
    UNION ALL
    SELECT k.space, e.oid::text, pg_catalog.format('label %%I of %%I', e.enumlabel, k.typname)
    FROM kind k JOIN pg_catalog.pg_enum e ON e.enumtypid = k.oid
    UNION ALL
    SELECT p.space, p.oid::text, pg_catalog.format('routine %%I %%s', p.proname, (
        SELECT pg_catalog.string_agg(coalesce(pg_catalog.quote_ident(k.typname), a.type::text), ' ' ORDER BY a.n)
        FROM pg_catalog.unnest(p.proargtypes) WITH ORDINALITY AS a (type, n)
        LEFT JOIN pg_catalog.pg_type k ON k.oid = a.type AND k.typnamespace = p.space))
    FROM routine p
    UNION ALL
    SELECT r.space, c.oid::text, pg_catalog.format('constraint %%I of %%I', c.conname, r.relname)
    FROM relation r JOIN pg_catalog.pg_constraint c ON c.conrelid = r.oid WHERE c.contype = 'p'
    UNION ALL
    SELECT s.oid, o.oid::text, pg_catalog.format('operator %%I %%s', o.oprname, (
        SELECT pg_catalog.string_agg(coalesce(pg_catalog.quote_ident(k.typname), a.type::text), ' ' ORDER BY a.n)
        FROM (VALUES (1, o.oprleft), (2, o.oprright)) AS a (n, type)
        LEFT JOIN pg_catalog.pg_type k ON k.oid = a.type AND k.typnamespace = s.oid))
    FROM space s JOIN pg_catalog.pg_operator o ON o.oprnamespace = s.oid
    UNION ALL
    SELECT s.oid, l.oid::text, pg_catalog.format('collation %%I', l.collname)
    FROM space s JOIN pg_catalog.pg_collation l ON l.collnamespace = s.oid
    UNION ALL
    SELECT s.oid, t.oid::text, pg_catalog.format('search configuration %%I', t.cfgname)
    FROM space s JOIN pg_catalog.pg_ts_config t ON t.cfgnamespace = s.oid
    UNION ALL
    SELECT s.oid, t.oid::text, pg_catalog.format('search dictionary %%I', t.dictname)
    FROM space s JOIN pg_catalog.pg_ts_dict t ON t.dictnamespace = s.oid
), object AS (
    SELECT r.space, ROW('relation', r.relname, r.relkind, r.relpersistence, r.relam, r.relispartition,
               r.relrowsecurity, r.relforcerowsecurity, CASE r.relkind WHEN 'v' THEN r.reloptions END,
               a.columns)::text AS plain,
           CASE WHEN r.relpartbound IS NOT NULL OR r.reloftype <> 0 OR a.collations IS NOT NULL
                THEN ROW(r.reloftype, {relpartbound}, a.collations)::text END AS numbered
    FROM relation r LEFT JOIN (
        SELECT a.attrelid, pg_catalog.string_agg(ROW(a.attnum, a.attname, k.typname,
                   CASE WHEN k.oid IS NULL THEN a.atttypid END, a.atttypmod,
                   CASE WHEN a.attcollation < 10000 THEN a.attcollation END, a.attnotnull,
                   a.attidentity, a.attgenerated, a.attfdwoptions)::text, '' ORDER BY a.attnum) AS columns,
               pg_catalog.string_agg(a.attcollation::text, ' ' ORDER BY a.attnum)
               FILTER (WHERE a.attcollation >= 10000) AS collations
        FROM pg_catalog.pg_attribute a JOIN relation r ON r.oid = a.attrelid
        LEFT JOIN kind k ON k.oid = a.atttypid AND k.space = r.space
        WHERE a.attnum > 0 AND NOT a.attisdropped AND r.relkind <> 'S' GROUP BY a.attrelid
    ) a ON a.attrelid = r.oid
    UNION ALL
    SELECT r.space, ROW('default', r.relname, d.adnum)::text, {adbin}
    FROM relation r JOIN pg_catalog.pg_attrdef d ON d.adrelid = r.oid
    UNION ALL
    SELECT r.space, ROW('constraint', r.relname, c.conname, c.contype, c.condeferrable, c.condeferred,
               c.convalidated, c.connoinherit, c.confupdtype, c.confdeltype, c.confmatchtype, c.conkey, c.confkey,
               c.confdelsetcols, f.relname, CASE WHEN f.oid IS NULL THEN c.confrelid END {newer})::text,
           CASE c.contype WHEN 'x' THEN c.conexclop::text ELSE {conbin} END
    FROM relation r JOIN pg_catalog.pg_constraint c ON c.conrelid = r.oid
    LEFT JOIN relation f ON f.oid = c.confrelid AND f.space = r.space
    WHERE c.contype <> 'n' OR NOT c.convalidated OR c.connoinherit
    UNION ALL
    SELECT r.space, ROW('index', r.relname, c.relname, c.relam, c.reloptions, c.relispartition, i.indisunique,
               i.indnullsnotdistinct, i.indisprimary, i.indisexclusion, i.indimmediate, i.indisvalid, i.indisready,
               i.indislive, i.indnkeyatts, i.indkey, i.indclass, i.indoption,
               CASE WHEN NOT i.indcollation::text ~ '\d{{5}}' THEN i.indcollation END,
               CASE WHEN c.relam <> 403 THEN ARRAY(SELECT a.attoptions::text FROM pg_catalog.pg_attribute a
                   WHERE a.attrelid = c.oid AND a.attnum > 0 ORDER BY a.attnum) END)::text,
           CASE WHEN i.indexprs IS NOT NULL OR i.indpred IS NOT NULL OR i.indcollation::text ~ '\d{{5}}'
                THEN ROW({indexprs}, {indpred}, i.indcollation)::text END
    FROM relation r JOIN pg_catalog.pg_index i ON i.indrelid = r.oid
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    UNION ALL
    SELECT r.space, ROW('trigger', r.relname, CASE WHEN NOT t.tgisinternal THEN t.tgname END, t.tgtype,
               t.tgenabled, t.tgdeferrable, t.tginitdeferred, t.tgattr, pg_catalog.sha256(t.tgargs), t.tgoldtable,
               t.tgnewtable, CASE WHEN t.tgisinternal THEN (
                   SELECT c.conname FROM pg_catalog.pg_constraint c WHERE c.oid = t.tgconstraint) END)::text,
           ROW(t.tgfoid, t.tgconstrrelid, {tgqual})::text
    FROM relation r JOIN pg_catalog.pg_trigger t ON t.tgrelid = r.oid
    WHERE NOT t.tgisinternal OR t.tgenabled <> 'O'
    UNION ALL
    SELECT r.space, ROW('policy', r.relname, p.polname, p.polcmd, p.polpermissive, ARRAY(
               SELECT CASE o.role WHEN s.owner THEN 'owner' WHEN s.app THEN 'group' ELSE o.role::text END AS who
               FROM pg_catalog.unnest(p.polroles) AS o (role) ORDER BY who))::text,
           ROW({polqual}, {polwithcheck})::text
    FROM relation r JOIN pg_catalog.pg_policy p ON p.polrelid = r.oid JOIN space s ON s.oid = r.space
    UNION ALL
    SELECT r.space, ROW('rule', r.relname, w.rulename, w.ev_type, w.ev_enabled, w.is_instead)::text,
           ROW({ev_qual}, {ev_action})::text
    FROM relation r JOIN pg_catalog.pg_rewrite w ON w.ev_class = r.oid
    UNION ALL
    SELECT r.space, ROW('sequence', r.relname, q.seqtypid, q.seqstart, q.seqincrement, q.seqmax, q.seqmin,
               q.seqcache, q.seqcycle, d.deptype, o.relname, d.refobjsubid)::text, NULL
    FROM relation r JOIN pg_catalog.pg_sequence q ON q.seqrelid = r.oid
    LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
          AND d.objid = r.oid AND d.refclassid = d.classid AND d.deptype IN ('a', 'i')
    LEFT JOIN pg_catalog.pg_class o ON o.oid = d.refobjid
    UNION ALL
    SELECT r.space, ROW('parent', r.relname, h.inhseqno, h.inhdetachpending)::text, h.inhparent::text
    FROM relation r JOIN pg_catalog.pg_inherits h ON h.inhrelid = r.oid
    UNION ALL
    SELECT r.space, ROW('partitioned', r.relname, p.partstrat, p.partattrs, p.partclass)::text,
           ROW(p.partdefid, p.partcollation, {partexprs})::text
    FROM relation r JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = r.oid
    UNION ALL
    SELECT r.space, ROW('foreign', r.relname, f.ftserver, f.ftoptions)::text, NULL
    FROM relation r JOIN pg_catalog.pg_foreign_table f ON f.ftrelid = r.oid
    UNION ALL
    SELECT k.space, ROW('type', k.typname, k.typtype, k.typlen, k.typbyval, k.typtypmod, k.typndims, k.typnotnull,
               (
               SELECT pg_catalog.string_agg(pg_catalog.quote_ident(e.enumlabel), ' ' ORDER BY e.enumsortorder)
               FROM pg_catalog.pg_enum e WHERE e.enumtypid = k.oid))::text,
           ROW(k.typbasetype, k.typinput::oid, k.typcollation, {typdefaultbin}, (
               SELECT ROW(m.typname, g.rngsubtype, g.rngcollation, g.rngsubopc, g.rngcanonical::oid,
                          g.rngsubdiff::oid)
               FROM pg_catalog.pg_range g JOIN pg_catalog.pg_type m ON m.oid = g.rngmultitypid
               WHERE g.rngtypid = k.oid))::text
    FROM kind k WHERE k.typtype NOT IN ('c', 'm') AND k.typcategory <> 'A'
    UNION ALL
    SELECT k.space, ROW('domain', k.typname, c.conname, c.contype, c.convalidated)::text, {conbin}
    FROM kind k JOIN pg_catalog.pg_constraint c ON c.contypid = k.oid WHERE k.typtype = 'd'
    UNION ALL
    SELECT p.space, ROW('routine', p.proname, p.prokind, p.prolang, p.procost, p.prorows, p.prosecdef,
               p.proleakproof, p.proisstrict, p.proretset, p.provolatile, p.proparallel, p.pronargdefaults,
               p.proargmodes, p.proargnames, p.probin,
               pg_catalog.sha256(pg_catalog.convert_to(p.prosrc, {encoding})), {settings})::text,
           ROW(p.prorettype, p.proargtypes, p.proallargtypes, p.provariadic, p.prosupport::oid, p.protrftypes,
               {proargdefaults}, {prosqlbody})::text
    FROM routine p
    UNION ALL
    SELECT p.space, ROW('aggregate', p.proname, a.aggkind, a.aggnumdirectargs, a.aggfinalextra, a.aggmfinalextra,
               a.aggfinalmodify, a.aggmfinalmodify, a.aggtransspace, a.aggmtransspace,
               pg_catalog.sha256(pg_catalog.convert_to(ROW(a.agginitval, a.aggminitval)::text, {encoding})))::text,
           ROW(p.oid, a.aggtransfn::oid, a.aggfinalfn::oid, a.aggcombinefn::oid, a.aggserialfn::oid,
               a.aggdeserialfn::oid, a.aggmtransfn::oid, a.aggminvtransfn::oid, a.aggmfinalfn::oid, a.aggsortop,
               a.aggtranstype, a.aggmtranstype)::text
    FROM routine p JOIN pg_catalog.pg_aggregate a ON a.aggfnoid = p.oid
    UNION ALL
    SELECT x.stxnamespace, ROW('statistics', x.stxname, x.stxkeys, x.stxkind)::text,
           ROW(x.stxrelid, {stxexprs})::text
    FROM space s JOIN pg_catalog.pg_statistic_ext x ON x.stxnamespace = s.oid
    UNION ALL
    SELECT o.oprnamespace, ROW('operator', o.oprname, o.oprkind, o.oprcanmerge, o.oprcanhash)::text,
           ROW(o.oprleft, o.oprright, o.oprresult, o.oprcom, o.oprnegate, o.oprcode::oid, o.oprrest::oid,
               o.oprjoin::oid)::text
    FROM space s JOIN pg_catalog.pg_operator o ON o.oprnamespace = s.oid
    UNION ALL
    SELECT l.collnamespace, ROW('collation', pg_catalog.to_jsonb(l) - {own}::text[])::text, NULL
    FROM space s JOIN pg_catalog.pg_collation l ON l.collnamespace = s.oid
    UNION ALL
    SELECT t.cfgnamespace, ROW('search configuration', t.cfgname, t.cfgparser)::text, (
               SELECT pg_catalog.string_agg(ROW(m.maptokentype, m.mapseqno, m.mapdict)::text, ''
                                            ORDER BY m.maptokentype, m.mapseqno)
               FROM pg_catalog.pg_ts_config_map m WHERE m.mapcfg = t.oid)
    FROM space s JOIN pg_catalog.pg_ts_config t ON t.cfgnamespace = s.oid
    UNION ALL
    SELECT t.dictnamespace, ROW('search dictionary', t.dictname, t.dicttemplate,
               pg_catalog.sha256(pg_catalog.convert_to(t.dictinitoption, {encoding})))::text, NULL
    FROM space s JOIN pg_catalog.pg_ts_dict t ON t.dictnamespace = s.oid
    UNION ALL
    SELECT e.extnamespace, ROW('extension', e.extname, e.extversion)::text, NULL
    FROM space s JOIN pg_catalog.pg_extension e ON e.extnamespace = s.oid
), cut AS MATERIALIZED (
    SELECT pg_catalog.row_number() OVER () AS id, o.space, ROW({short_plain}, {short_rest})::text AS text,
           CASE WHEN o.rest <> o.numbered THEN ARRAY(
               SELECT m.found[1] FROM pg_catalog.regexp_matches(o.numbered, {number}, 'g')
                                      WITH ORDINALITY AS m (found, n) ORDER BY m.n) END AS numbers
    FROM (SELECT *, pg_catalog.regexp_replace(numbered, {number}, '#', 'g') AS rest FROM object OFFSET 0) o
), exchanged AS (
    SELECT c.id, pg_catalog.string_agg(
               coalesce(w.word, CASE t.n WHEN 1 THEN t.number ELSE m.found END), ','
               ORDER BY m.n, t.n, w.word) AS words
    FROM cut c
    CROSS JOIN LATERAL pg_catalog.unnest(c.numbers) WITH ORDINALITY AS m (found, n)
    CROSS JOIN LATERAL (
        SELECT 1 AS n, CASE WHEN m.found ~ '^c' THEN pg_catalog.split_part(m.found, ' ', 2) ELSE m.found END
               AS number
        UNION ALL
        SELECT 2, {value} WHERE m.found ~ '^c'
    ) t
    LEFT JOIN word w ON w.space = c.space AND w.number = t.number
    GROUP BY c.id
)
SELECT s.nspname::text, pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(coalesce(
    pg_catalog.string_agg(h.text, '' ORDER BY h.text COLLATE "C"), ''), {encoding})), 'hex')
FROM space s LEFT JOIN (
    SELECT c.space, CASE WHEN x.id IS NULL THEN c.text ELSE ROW(c.text, {short_words})::text END AS text
    FROM cut c LEFT JOIN exchanged x ON x.id = c.id
) h ON h.space = s.oid
GROUP BY s.oid, s.nspname
""")
