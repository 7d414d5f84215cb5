"""The query for everything that one schema is made of.

Where the catalogs have a definition as an expression, the server writes it. What belongs to an extension is left
out; an extension counts as one object, with its version.

Source: PostgreSQL documentation, "System Catalogs" and "System Catalog Information Functions".
"""

from __future__ import annotations

SPACE = """
SELECT n.oid, pg_catalog.quote_ident(n.nspname),
       pg_catalog.pg_get_userbyid(CASE n.nspowner WHEN 'pg_database_owner'::pg_catalog.regrole THEN d.datdba
                                  ELSE n.nspowner END)::text
FROM pg_catalog.pg_namespace n
JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
WHERE n.nspname = %s
"""
"""Number, name as the server quotes it, owner; an owner that stands for the database's is that one."""

OBJECTS = """
WITH part AS MATERIALIZED (
    SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
    WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid = %(schema)s::pg_catalog.oid
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend e
        WHERE e.classid = d.classid AND e.objid = d.objid AND e.objsubid = 0 AND e.deptype = 'e'
          AND e.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass)
), relation AS MATERIALIZED (
    SELECT c.*, k.kind, pg_catalog.quote_ident(c.relname) AS name,
           k.kind || ' ' || pg_catalog.quote_ident(c.relname) AS words
    FROM part p JOIN pg_catalog.pg_class c ON c.oid = p.objid
    JOIN (VALUES ('r', 'table'), ('p', 'table'), ('f', 'foreign table'), ('v', 'view'),
                 ('m', 'materialized view'), ('S', 'sequence')) AS k (relkind, kind) ON k.relkind = c.relkind::text
    WHERE p.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
), attribute AS MATERIALIZED (
    SELECT a.*, r.name AS relation, r.words, r.kind,
           ARRAY[pg_catalog.format_type(a.atttypid, a.atttypmod),
                 CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::pg_catalog.regcollation::text END,
                 (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d
                  WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum)] AS texts
    FROM relation r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE r.kind <> 'sequence' AND a.attnum > 0 AND NOT a.attisdropped
), kind AS MATERIALIZED (
    SELECT t.* FROM part p JOIN pg_catalog.pg_type t ON t.oid = p.objid
    WHERE p.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.typtype <> 'm'
      AND NOT (t.typtype = 'b' AND t.typcategory = 'A')
), routine AS MATERIALIZED (
    SELECT p.* FROM part o JOIN pg_catalog.pg_proc p ON p.oid = o.objid
    WHERE o.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = o.classid AND d.objid = o.objid AND d.objsubid = 0 AND d.deptype = 'i')
)
SELECT r.kind, r.name, '', NULL, pg_catalog.to_jsonb(ARRAY[r.relkind::text, r.relpersistence::text, m.amname::text,
           r.relrowsecurity::text, r.relforcerowsecurity::text, r.relispartition::text, s.srvname::text,
           f.ftoptions::text]),
       ARRAY[pg_catalog.pg_get_partkeydef(r.oid), pg_catalog.pg_get_expr(r.relpartbound, r.oid),
             CASE WHEN r.reloftype <> 0 THEN pg_catalog.format_type(r.reloftype, NULL) END,
             (SELECT pg_catalog.string_agg(h.inhparent::pg_catalog.regclass::text, ', ' ORDER BY h.inhseqno)
              FROM pg_catalog.pg_inherits h WHERE h.inhrelid = r.oid)], NULL::text[]
FROM relation r LEFT JOIN pg_catalog.pg_am m ON m.oid = r.relam
LEFT JOIN pg_catalog.pg_foreign_table f ON f.ftrelid = r.oid
LEFT JOIN pg_catalog.pg_foreign_server s ON s.oid = f.ftserver
WHERE r.kind IN ('table', 'foreign table')
UNION ALL
SELECT r.kind, r.name, '', NULL,
       pg_catalog.jsonb_build_array(r.relpersistence, CASE r.relkind WHEN 'v' THEN r.reloptions END, (
           SELECT pg_catalog.jsonb_agg(a.attname ORDER BY a.attnum) FROM attribute a WHERE a.attrelid = r.oid)),
       ARRAY[pg_catalog.pg_get_viewdef(r.oid), (
           SELECT pg_catalog.string_agg(pg_catalog.array_to_string(a.texts, ' ', '-'), ', ' ORDER BY a.attnum)
           FROM attribute a WHERE a.attrelid = r.oid)], NULL
FROM relation r WHERE r.kind IN ('view', 'materialized view')
UNION ALL
SELECT 'column', a.relation || '.' || pg_catalog.quote_ident(a.attname), '', a.words,
       pg_catalog.jsonb_build_array(a.attnotnull, a.attidentity, a.attgenerated, a.attfdwoptions, (
           SELECT pg_catalog.jsonb_build_array(n.convalidated, n.connoinherit) FROM pg_catalog.pg_constraint n
           WHERE n.conrelid = a.attrelid AND n.contype = 'n' AND n.conkey = ARRAY[a.attnum]), (
           SELECT pg_catalog.to_jsonb(q) - 'seqrelid'
           FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_sequence q ON q.seqrelid = d.objid
           WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = a.attrelid
             AND d.refobjsubid = a.attnum AND d.classid = d.refclassid AND d.deptype = 'i')),
       a.texts, NULL
FROM attribute a WHERE a.kind IN ('table', 'foreign table')
UNION ALL
SELECT 'column order of', a.relation, '', a.words, pg_catalog.jsonb_agg(a.attname ORDER BY a.attnum), NULL, NULL
FROM attribute a WHERE a.kind IN ('table', 'foreign table') GROUP BY a.relation, a.words
UNION ALL
SELECT 'constraint', r.name || '.' || pg_catalog.quote_ident(c.conname), '', r.words,
       pg_catalog.jsonb_build_array(c.contype, EXISTS (
           SELECT FROM pg_catalog.pg_trigger t JOIN relation o ON o.oid = t.tgrelid
           WHERE t.tgconstraint = c.oid AND t.tgisinternal AND t.tgenabled <> 'O')),
       ARRAY[pg_catalog.pg_get_constraintdef(c.oid)], NULL
FROM relation r JOIN pg_catalog.pg_constraint c ON c.conrelid = r.oid
WHERE c.contype IN ('c', 'f', 'p', 'u', 'x') AND c.conparentid = 0
UNION ALL
SELECT 'index', pg_catalog.quote_ident(c.relname), '', r.words,
       pg_catalog.jsonb_build_array(i.indisvalid AND i.indisready AND i.indislive, i.indimmediate),
       ARRAY[pg_catalog.pg_get_indexdef(i.indexrelid)], NULL
FROM relation r JOIN pg_catalog.pg_index i ON i.indrelid = r.oid
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE NOT c.relispartition
UNION ALL
SELECT 'trigger', r.name || '.' || pg_catalog.quote_ident(t.tgname), '', r.words,
       pg_catalog.jsonb_build_array(t.tgenabled), ARRAY[pg_catalog.pg_get_triggerdef(t.oid)], NULL
FROM relation r JOIN pg_catalog.pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal
UNION ALL
SELECT 'policy', r.name || '.' || pg_catalog.quote_ident(p.polname), '', r.words,
       pg_catalog.jsonb_build_array(p.polcmd, p.polpermissive),
       ARRAY[pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)],
       ARRAY(SELECT CASE o.role WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(o.role)::text END
             FROM pg_catalog.unnest(p.polroles) AS o (role))
FROM relation r JOIN pg_catalog.pg_policy p ON p.polrelid = r.oid
UNION ALL
SELECT 'rule', r.name || '.' || pg_catalog.quote_ident(w.rulename), '', r.words,
       pg_catalog.jsonb_build_array(w.ev_enabled), ARRAY[pg_catalog.pg_get_ruledef(w.oid)], NULL
FROM relation r JOIN pg_catalog.pg_rewrite w ON w.ev_class = r.oid WHERE w.rulename <> '_RETURN'
UNION ALL
SELECT r.kind, r.name, '', o.words,
       pg_catalog.jsonb_build_array(r.relpersistence, pg_catalog.to_jsonb(q) - '{seqrelid,seqtypid}'::text[],
           d.deptype),
       ARRAY[pg_catalog.format_type(q.seqtypid, NULL), o.name, (
           SELECT a.attname FROM pg_catalog.pg_attribute a
           WHERE a.attrelid = d.refobjid AND a.attnum = d.refobjsubid)], NULL
FROM relation r JOIN pg_catalog.pg_sequence q ON q.seqrelid = r.oid
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = r.oid
      AND d.refclassid = d.classid AND d.deptype IN ('a', 'i')
LEFT JOIN relation o ON o.oid = d.refobjid
WHERE d.deptype IS DISTINCT FROM 'i'
UNION ALL
SELECT CASE k.typtype WHEN 'd' THEN 'domain' ELSE 'type' END, pg_catalog.quote_ident(k.typname), '', NULL,
       pg_catalog.jsonb_build_array(k.typtype, k.typnotnull, k.typlen, k.typbyval, (
           SELECT pg_catalog.jsonb_agg(e.enumlabel ORDER BY e.enumsortorder)
           FROM pg_catalog.pg_enum e WHERE e.enumtypid = k.oid), (
           SELECT pg_catalog.jsonb_agg(ARRAY[c.conname::text, c.contype::text] ORDER BY c.conname)
           FROM pg_catalog.pg_constraint c WHERE c.contypid = k.oid AND c.contype = 'c'), (
           SELECT pg_catalog.jsonb_agg(a.attname ORDER BY a.attnum)
           FROM pg_catalog.pg_attribute a WHERE a.attrelid = k.typrelid AND a.attnum > 0 AND NOT a.attisdropped)),
       ARRAY[CASE WHEN k.typtype = 'd' THEN pg_catalog.format_type(k.typbasetype, k.typtypmod) END,
             CASE WHEN k.typcollation <> 0 THEN k.typcollation::pg_catalog.regcollation::text END,
             pg_catalog.pg_get_expr(k.typdefaultbin, 0), k.typinput::oid::pg_catalog.regprocedure::text,
             (SELECT pg_catalog.string_agg(pg_catalog.pg_get_constraintdef(c.oid), ', ' ORDER BY c.conname)
              FROM pg_catalog.pg_constraint c WHERE c.contypid = k.oid AND c.contype = 'c'),
             (SELECT pg_catalog.string_agg(pg_catalog.format_type(a.atttypid, a.atttypmod) || ' '
                         || a.attcollation::pg_catalog.regcollation::text, ', ' ORDER BY a.attnum)
              FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = k.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
             (SELECT pg_catalog.concat_ws(' ', pg_catalog.format_type(g.rngsubtype, NULL),
                         g.rngcollation::pg_catalog.regcollation, o.opcname,
                         g.rngcanonical::oid::pg_catalog.regprocedure,
                         g.rngsubdiff::oid::pg_catalog.regprocedure,
                         pg_catalog.format_type(g.rngmultitypid, NULL))
              FROM pg_catalog.pg_range g JOIN pg_catalog.pg_opclass o ON o.oid = g.rngsubopc
              WHERE g.rngtypid = k.oid)], NULL
FROM kind k
UNION ALL
SELECT CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
       pg_catalog.quote_ident(p.proname), '(' || coalesce((
           SELECT pg_catalog.string_agg(pg_catalog.format_type(a.type, NULL), ', ' ORDER BY a.n)
           FROM pg_catalog.unnest(p.proargtypes) WITH ORDINALITY AS a (type, n)), '') || ')', NULL,
       pg_catalog.jsonb_build_array(p.prokind, l.lanname, p.procost, p.prorows, p.prosecdef, p.proleakproof,
           p.proisstrict, p.proretset, p.provolatile, p.proparallel, p.probin,
           pg_catalog.sha256(pg_catalog.convert_to(p.prosrc, pg_catalog.getdatabaseencoding())),
           a.aggkind, a.aggnumdirectargs, a.aggfinalextra, a.aggmfinalextra, a.aggfinalmodify,
           a.aggmfinalmodify, a.aggtransspace, a.aggmtransspace, a.agginitval, a.aggminitval),
       ARRAY[pg_catalog.pg_get_function_arguments(p.oid), pg_catalog.pg_get_function_result(p.oid),
             pg_catalog.pg_get_function_sqlbody(p.oid),
             p.prosupport::oid::pg_catalog.regprocedure::text,
             (SELECT pg_catalog.string_agg(pg_catalog.format_type(t.type, NULL), ', ' ORDER BY t.n)
              FROM pg_catalog.unnest(p.protrftypes) WITH ORDINALITY AS t (type, n)),
             (SELECT pg_catalog.string_agg(f.oid::oid::pg_catalog.regprocedure::text, ', ' ORDER BY f.n)
              FROM pg_catalog.unnest(ARRAY[a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn,
                       a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn])
                   WITH ORDINALITY AS f (oid, n)),
             a.aggsortop::pg_catalog.regoperator::text, pg_catalog.format_type(a.aggtranstype, NULL),
             pg_catalog.format_type(a.aggmtranstype, NULL)], p.proconfig
FROM routine p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
LEFT JOIN pg_catalog.pg_aggregate a ON a.aggfnoid = p.oid
UNION ALL
SELECT 'statistics', pg_catalog.quote_ident(x.stxname), '', r.words, NULL,
       ARRAY[pg_catalog.pg_get_statisticsobjdef(x.oid)], NULL
FROM part p JOIN pg_catalog.pg_statistic_ext x ON x.oid = p.objid LEFT JOIN relation r ON r.oid = x.stxrelid
WHERE p.classid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass
UNION ALL
SELECT 'operator', o.oprname::text, '(' || pg_catalog.concat_ws(', ',
           CASE WHEN o.oprleft <> 0 THEN pg_catalog.format_type(o.oprleft, NULL) END,
           pg_catalog.format_type(o.oprright, NULL)) || ')', NULL,
       pg_catalog.jsonb_build_array(o.oprcanmerge, o.oprcanhash),
       ARRAY[o.oprcode::oid::pg_catalog.regprocedure::text, pg_catalog.format_type(o.oprresult, NULL),
             o.oprcom::pg_catalog.regoperator::text, o.oprnegate::pg_catalog.regoperator::text,
             o.oprrest::oid::pg_catalog.regprocedure::text,
             o.oprjoin::oid::pg_catalog.regprocedure::text], NULL
FROM part p JOIN pg_catalog.pg_operator o ON o.oid = p.objid
WHERE p.classid = 'pg_catalog.pg_operator'::pg_catalog.regclass
UNION ALL
SELECT 'collation', pg_catalog.quote_ident(l.collname), '', NULL, pg_catalog.to_jsonb(l)
           - '{oid,collname,collnamespace,collowner,collversion}'::text[], NULL, NULL
FROM part p JOIN pg_catalog.pg_collation l ON l.oid = p.objid
WHERE p.classid = 'pg_catalog.pg_collation'::pg_catalog.regclass
UNION ALL
SELECT 'text search configuration', pg_catalog.quote_ident(c.cfgname), '', NULL,
       pg_catalog.jsonb_build_array(s.prsname, (
           SELECT pg_catalog.jsonb_agg(ARRAY[m.maptokentype, m.mapseqno] ORDER BY m.maptokentype, m.mapseqno)
           FROM pg_catalog.pg_ts_config_map m WHERE m.mapcfg = c.oid)),
       ARRAY(SELECT m.mapdict::pg_catalog.regdictionary::text FROM pg_catalog.pg_ts_config_map m
             WHERE m.mapcfg = c.oid ORDER BY m.maptokentype, m.mapseqno), NULL
FROM part p JOIN pg_catalog.pg_ts_config c ON c.oid = p.objid
JOIN pg_catalog.pg_ts_parser s ON s.oid = c.cfgparser
WHERE p.classid = 'pg_catalog.pg_ts_config'::pg_catalog.regclass
UNION ALL
SELECT 'text search dictionary', pg_catalog.quote_ident(t.dictname), '', NULL,
       pg_catalog.jsonb_build_array(m.tmplname, t.dictinitoption), NULL, NULL
FROM part p JOIN pg_catalog.pg_ts_dict t ON t.oid = p.objid
JOIN pg_catalog.pg_ts_template m ON m.oid = t.dicttemplate
WHERE p.classid = 'pg_catalog.pg_ts_dict'::pg_catalog.regclass
UNION ALL
SELECT 'extension', pg_catalog.quote_ident(e.extname), '', NULL, pg_catalog.jsonb_build_array(e.extversion), NULL,
       NULL
FROM pg_catalog.pg_extension e WHERE e.extnamespace = %(schema)s::pg_catalog.oid
"""
"""Kind, name, arguments, whose it is, facts, texts as the server writes them, roles or settings."""
